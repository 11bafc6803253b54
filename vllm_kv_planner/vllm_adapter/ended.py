"""End the vLLM that answers ``--planner vllm`` in this process, before the process ends."""

from __future__ import annotations

import sys

_SHARED = f"{__package__}.shared"


def end_shared_planner() -> None:
    """Close ``shared_planner()`` where it was ever asked; the next question starts a new one."""
    shared = sys.modules.get(_SHARED)
    if shared is not None:
        shared.shared_planner().close()
