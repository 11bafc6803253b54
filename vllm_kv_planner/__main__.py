"""``python -m vllm_kv_planner``."""

import os
import sys

# Python looks in the current directory first, where a model's folder may have a json.py.
home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if sys.path[0] == os.getcwd() != home:
    del sys.path[0]

from .cli import main  # noqa: E402

raise SystemExit(main())
