"""vLLM's own blocks under our budget: vLLM profiles a running engine, and here none runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..engine_args.described import described
from ..engine_args.engine_args import EngineArgs
from ..engine_args.environment import EngineEnvironment
from ..engine_args.setup import EngineSetup, resolve_setup
from ..errors import UnsupportedError, WeightsUnknownError
from ..gpu.catalogue import DEFAULT_GPU, find_gpu
from ..gpu.gpu import GPU
from ..model.find import FoundConfig
from ..planning.machine import Machine
from ..planning.memory import KVMemory, kv_memory, not_held
from ..planning.types import BORDERLINE, DOES_NOT_FIT, FITS, Plan
from ..planning.verdict import Verdict, captures_whole_steps, held_against_gpu, states_for_all
from ..planning.weights import weights_of
from ..records import replace
from ..units import gib
from .client import THIS_MACHINE

if TYPE_CHECKING:
    from ..memory.weights import WeightsEstimate

Ask = Callable[[EngineArgs, "Sequence[int] | None"], Plan]
"""Flags, and the KV memory of every pipeline stage where it is predicted: vLLM's plan."""

STAND_IN_BYTES = 1 << 30
"""KV memory of a question that is asked for the weights alone."""
COUNTED_UNSURE = 0.03
"""Of weights that vLLM's classes hold before kernels lay them out anew."""


def plan_with_budget(
    args: EngineArgs,
    ask: Ask,
    *,
    found: FoundConfig,
    gpu: str | GPU | None,
    environment: EngineEnvironment | None,
    machine: Machine,
    vllm_version: str,
    count: Ask | None = None,
) -> Plan:
    """The plan of vLLM's own code; the memory is predicted where no flag says it.

    ``count`` answers in place of ``ask`` where only the weights are asked for.

    Raises:
        UnsupportedError: The stand-alone planner has no rule for the engine, so that nobody knows
            its memory.
    """
    given = args.kv_cache_memory_bytes is not None or args.num_gpu_blocks_override is not None
    if gpu == THIS_MACHINE or (given and gpu is None):
        return ask(args, None)
    try:
        device = machine.device(
            gpu if isinstance(gpu, GPU) else find_gpu(DEFAULT_GPU if gpu is None else gpu)
        )
        setup = resolve_setup(args, described(found, args), device, environment)
        try:
            weights = weights_of(setup, found, vllm_version)
        except WeightsUnknownError:
            question = args if given else replace(args, kv_cache_memory_bytes=STAND_IN_BYTES)
            weights = counted((count or ask)(question, None), len(setup.cache.stages))
        memory = kv_memory(
            setup, found, vllm_version, machine, gpu_named=gpu is not None, weights=weights
        )
    except UnsupportedError as refusal:
        if given:
            answer = ask(args, None)
            return replace(answer, notes=(*answer.notes, not_held(refusal)))
        raise UnsupportedError(
            f"the memory left for the KV cache is not known ({refusal}); --planner vllm can answer "
            "with --kv-cache-memory-bytes N"
        ) from None
    if given:
        return told(ask(args, None), setup, memory, vllm_version)
    tightest = min(memory.available)
    if memory.infos[0].requested_bytes is not None and tightest <= 0:
        raise UnsupportedError(
            f"no memory is available for the cache blocks: {gib(tightest)} is left of "
            f"{gib(memory.infos[0].requested_bytes)}; --planner standalone shows the parts"
        )
    # states and caches that keep nothing ask for none
    with_memory = replace(args, kv_cache_memory_bytes=max(1, tightest))
    return told(ask(with_memory, memory.available), setup, memory, vllm_version)


def counted(answer: Plan, stages: int) -> WeightsEstimate:
    """The weights that vLLM's own model classes hold."""
    from ..memory.weights.estimate import StageWeights, WeightsEstimate

    size = answer.memory.weights_bytes
    if size is None:
        raise WeightsUnknownError("vLLM told no weights")
    return WeightsEstimate(
        stages=(StageWeights(num_bytes=size, parts={}),) * stages,
        provenance=answer.memory.provenance.get("weights_bytes", "counted by vLLM's own classes"),
        uncertainty_bytes=int(size * COUNTED_UNSURE),
    )


def told(plan: Plan, setup: EngineSetup, memory: KVMemory, vllm_version: str) -> Plan:
    """vLLM's plan with the parts of the memory that it was made for, and what they say."""
    cache = plan.kv_cache
    sizes = memory.available
    mine = plan.memory.available_kv_cache_bytes
    stage = sizes.index(mine) if mine in sizes else sizes.index(min(sizes))
    info = memory.info(stage)
    verdict = Verdict(word=plan.verdict, limits=plan.limits)
    if memory.refusal is not None:
        verdict = verdict.joined(Verdict(word=DOES_NOT_FIT, limits=(memory.refusal,)))
    if memory.doubt is not None:
        verdict = verdict.joined(Verdict(word=BORDERLINE, limits=(memory.doubt,)))
    blocks, per_block = cache.num_gpu_blocks or 0, cache.bytes_per_block
    taken = [blocks * per_block] * len(sizes) if cache.groups else []
    verdict = verdict.joined(held_against_gpu(memory, taken))
    states = any(group.kind == "mamba" for group in cache.groups)
    if states and plan.verdict == FITS and captures_whole_steps(setup, vllm_version):
        unsure = sizes[stage] - memory.pessimistic[stage]
        least = blocks - unsure // max(per_block, 1)
        verdict = verdict.joined(states_for_all(plan.engine.max_num_seqs, blocks, least))
    new = [each for each in verdict.notes if each not in plan.notes]
    return replace(
        plan,
        memory=info,
        verdict=verdict.word,
        limits=verdict.limits,
        fits=verdict.word == FITS,
        notes=(*new, *memory.notes, *plan.notes),
    )
