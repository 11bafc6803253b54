"""Inside vLLM: what an engine will have, said before its model loads, and what it then had.

The entry point of ``vllm.general_plugins``. vLLM calls it in every process, ``vllm --version``
included; it does nothing unless ``VLLM_KV_PLANNER`` is set, and then only puts hooks in place.
"""

from __future__ import annotations

import os

MODE = "VLLM_KV_PLANNER"
"""``report``, ``enforce`` or ``enforce=strict``; not set or empty: nothing happens."""


def register() -> None:
    """What vLLM calls. Raises nothing."""
    if os.environ.get(MODE, "").strip():
        from .hooks import install

        install(os.environ[MODE].strip())
