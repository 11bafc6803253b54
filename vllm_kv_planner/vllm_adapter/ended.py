"""End the vLLM that answers ``--planner vllm`` in this process, before the process ends."""

from __future__ import annotations

import sys

_SHARED = f"{__package__}.shared"


def end_shared_planner() -> None:
    """``close_planners()``, where one was ever asked."""
    shared = sys.modules.get(_SHARED)
    if shared is not None:
        shared.close_planners()
