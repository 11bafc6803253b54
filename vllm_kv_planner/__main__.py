"""``python -m vllm_kv_planner``."""

from .cli import main

raise SystemExit(main())
