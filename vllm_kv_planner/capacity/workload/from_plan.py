"""``EngineSettings`` of an engine that is planned for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import InputError, UnsupportedError
from ...plan_types import Plan
from .settings import EngineSettings, block_sizes, check_groups, group_settings

if TYPE_CHECKING:
    from ...engine_args.setup import EngineSetup
    from ..request import PlanRequest


def planned_settings(request: PlanRequest) -> tuple[EngineSettings, Plan]:
    """What the engine's scheduler works with, and the plan it comes from.

    Raises:
        PlannerError: The engine cannot be planned, does not fit, or has no rule here.
    """
    from ...described import described, named
    from ...engine_args.setup import resolve_setup
    from ...gpu.catalogue import DEFAULT_GPU, find_gpu
    from ...gpu.gpu import GPU
    from ...planner import VLLM_VERSION, plan_standalone
    from ...records import replace

    if request.vllm_version not in (None, VLLM_VERSION):
        raise UnsupportedError(
            f"workload: --vllm-version {request.vllm_version}: the rules are those of "
            f"{VLLM_VERSION}; leave it out"
        )
    plan = plan_standalone(
        request.args,
        found=request.found,
        gpu=request.gpu,
        vllm_version=None,
        environment=request.environment,
        machine=request.machine,
        notes=request.notes,
    )
    if not plan.fits:
        raise InputError(f"workload: this engine does not start: {plan.notes[0]}")
    gpu = DEFAULT_GPU if request.gpu is None else request.gpu
    device = request.machine.device(gpu if isinstance(gpu, GPU) else find_gpu(gpu))
    with named(request.found):
        setup = resolve_setup(
            request.args, described(request.found, request.args), device, request.environment
        )
    length = replace(setup.resolved.length, max_model_len=plan.engine.max_model_len)
    setup = replace(setup, resolved=replace(setup.resolved, length=length))
    return settings_of(setup, plan.kv_cache.num_gpu_blocks), plan
