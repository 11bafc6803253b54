"""KV memory for vLLM's own planning, where the user gave none: our budget, vLLM's blocks."""

from __future__ import annotations

from ..described import described
from ..engine_args.engine_args import EngineArgs
from ..engine_args.environment import EngineEnvironment
from ..engine_args.setup import resolve_setup
from ..errors import UnsupportedError
from ..gpu.catalogue import DEFAULT_GPU, find_gpu
from ..gpu.gpu import GPU
from ..kv_memory import KVMemory, kv_memory
from ..machine import Machine
from ..model.find import FoundConfig
from ..plan_types import Plan
from ..records import replace
from ..units import gib


def predicted_memory(
    args: EngineArgs,
    *,
    found: FoundConfig,
    gpu: str | GPU | None,
    environment: EngineEnvironment | None,
    machine: Machine,
    vllm_version: str,
) -> KVMemory | None:
    """The stand-alone budget of the engine; None where the user's flags say how much memory it has.

    vLLM profiles a running engine, and here none runs.

    Raises:
        UnsupportedError: The stand-alone planner has no rule for the model.
    """
    given = args.kv_cache_memory_bytes is not None or args.num_gpu_blocks_override is not None
    if given or gpu == "cpu":
        return None
    device = machine.device(
        gpu if isinstance(gpu, GPU) else find_gpu(DEFAULT_GPU if gpu is None else gpu)
    )
    try:
        setup = resolve_setup(args, described(found, args), device, environment)
        memory = kv_memory(setup, found, vllm_version, machine)
    except UnsupportedError as refusal:
        raise UnsupportedError(
            f"the memory left for the KV cache is not known ({refusal}); --planner vllm can answer "
            "with --kv-cache-memory-bytes N"
        ) from None
    tightest = min(memory.available)
    if memory.info.requested_bytes is not None and tightest <= 0:
        raise UnsupportedError(
            f"no memory is available for the cache blocks: {gib(tightest)} is left of "
            f"{gib(memory.info.requested_bytes)}; --planner standalone shows the parts"
        )
    return memory


def with_memory(args: EngineArgs, memory: KVMemory | None) -> EngineArgs:
    """The flags with that memory; states and caches that keep nothing ask for none."""
    if memory is None:
        return args
    return replace(args, kv_cache_memory_bytes=max(1, min(memory.available)))


def told(plan: Plan, memory: KVMemory | None) -> Plan:
    """vLLM's plan with the parts of the memory that it was made for."""
    if memory is None:
        return plan
    doubt = memory.refusal or (None if memory.doubt is None else f"borderline: {memory.doubt}")
    notes = (*memory.notes, *plan.notes)
    return replace(
        plan,
        memory=memory.info,
        fits=plan.fits and doubt is None,
        notes=notes if doubt is None else (doubt, *notes),
    )
