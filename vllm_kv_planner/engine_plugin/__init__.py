"""Inside vLLM: what an engine will have, said before its model loads, and what it then had.

The entry point of ``vllm.general_plugins``. vLLM calls it in every process, ``vllm --version``
included; it does nothing unless ``VLLM_KV_PLANNER`` is set, and then only puts hooks in place.
"""

from __future__ import annotations

import os


def register() -> None:
    """What vLLM calls. Raises nothing."""
    mode = os.environ.get("VLLM_KV_PLANNER", "").strip()
    if mode:
        from .hooks import install

        install(mode)
