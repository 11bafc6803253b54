"""vLLM's answers for ``plan()``: one planner a process, so that its import is paid once."""

from __future__ import annotations

import atexit
import os

from ..errors import UnsupportedError, WeightsUnknownError
from ..planning.request import PlanRequest
from .child import check_system
from .client import PYTHON, VLLMPlanner

_PLANNERS: dict[str | None, VLLMPlanner] = {}
"""By the interpreter named in the environment."""


def shared_planner() -> VLLMPlanner:
    """This process's planner with the interpreter named now, closed when the process ends."""
    python = os.environ.get(PYTHON)
    if python not in _PLANNERS:
        _PLANNERS[python] = VLLMPlanner()
        atexit.register(_PLANNERS[python].close)
    return _PLANNERS[python]


def close_planners() -> None:
    """End every vLLM that was asked; the next question starts a new one."""
    for planner in _PLANNERS.values():
        planner.close()


def installed_planner() -> VLLMPlanner:
    """The shared planner.

    Raises:
        UnsupportedError: There is no vLLM to ask.
    """
    check_system()
    if not is_installed():
        raise UnsupportedError(
            "--planner vllm: vLLM is not installed for this Python; pip install vllm, or name an "
            f"interpreter that has it in {PYTHON}"
        )
    return shared_planner()


def may_answer(request: PlanRequest, refusal: UnsupportedError) -> bool:
    """Whether vLLM, where it is installed, can answer what the stand-alone planner refused.

    With a memory to plan for, or where only the weights are missing, which it counts.
    """
    counts = isinstance(refusal, WeightsUnknownError) and request.found.source != "custom"
    return (request.gives_memory or counts) and is_installed()


def with_reason(notes: tuple[str, ...], refusal: UnsupportedError) -> tuple[str, ...]:
    """The notes, and why vLLM was asked."""
    return (*notes, f"vLLM answered, because the stand-alone planner refused: {refusal}")


def is_installed() -> bool:
    """Whether there is a vLLM to ask, found without importing it."""
    if not hasattr(os, "fork"):
        return False
    if os.environ.get(PYTHON):
        return True
    from importlib.util import find_spec

    return find_spec("vllm") is not None
