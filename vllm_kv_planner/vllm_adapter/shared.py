"""vLLM's answers for ``plan()``: one planner a process, so that its import is paid once."""

from __future__ import annotations

import atexit
import os

from ..engine_args.engine_args import EngineArgs
from ..engine_args.environment import EngineEnvironment
from ..errors import UnsupportedError
from ..gpu.gpu import GPU
from ..model.find import FoundConfig
from ..plan_types import Plan
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
    if not is_installed():
        raise UnsupportedError(
            "--planner vllm: vLLM is not installed for this Python; pip install vllm, or name an "
            f"interpreter that has it in {PYTHON}"
        )
    return shared_planner()


def plan_with_vllm(
    args: EngineArgs,
    *,
    found: FoundConfig,
    gpu: str | GPU | None,
    vllm_version: str | None,
    environment: EngineEnvironment | None,
    notes: tuple[str, ...],
) -> Plan:
    """``--planner vllm``.

    Raises:
        PlannerError: vLLM's refusal, or why it cannot be asked.
    """
    return installed_planner().plan_args(
        args,
        found=found,
        gpu=gpu,
        vllm_version=vllm_version,
        environment=environment,
        notes=notes,
    )


def plan_instead(
    refusal: UnsupportedError,
    args: EngineArgs,
    *,
    found: FoundConfig,
    gpu: str | GPU | None,
    vllm_version: str | None,
    environment: EngineEnvironment | None,
    notes: tuple[str, ...],
) -> Plan:
    """``--planner auto`` after the stand-alone planner refused: vLLM, where it is installed.

    Raises:
        InputError: vLLM refuses too; its reason counts.
        UnsupportedError: The first refusal, where vLLM cannot answer it.
    """
    memory_given = (
        args.kv_cache_memory_bytes is not None or args.num_gpu_blocks_override is not None
    )
    if not memory_given or not is_installed():
        raise refusal
    try:
        return plan_with_vllm(
            args,
            found=found,
            gpu=gpu,
            vllm_version=vllm_version,
            environment=environment,
            notes=(*notes, f"vLLM answered, because the stand-alone planner refused: {refusal}"),
        )
    except UnsupportedError as error:
        raise UnsupportedError(f"{refusal}; and vLLM cannot answer: {error}") from None


def is_installed() -> bool:
    """Whether there is a vLLM to ask, found without importing it."""
    if os.environ.get(PYTHON):
        return True
    from importlib.util import find_spec

    return find_spec("vllm") is not None
