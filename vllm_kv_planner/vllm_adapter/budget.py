"""vLLM's own blocks under our budget: vLLM profiles a running engine, and here none runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..errors import UnsupportedError, WeightsUnknownError
from ..planning.memory import not_held
from ..planning.request import PlanRequest
from ..planning.standalone import StandalonePlan
from ..planning.types import BORDERLINE, DOES_NOT_FIT, FITS, Plan
from ..planning.verdict import Verdict, captures_whole_steps, held_against_gpu, states_for_all
from ..records import replace
from ..units import gib
from .client import THIS_MACHINE

if TYPE_CHECKING:
    from ..memory.weights import WeightsEstimate


class Ask(Protocol):
    """A request, and the KV memory of every pipeline stage where it is predicted: vLLM's plan."""

    def __call__(self, request: PlanRequest, stage_memory: Sequence[int] | None = None) -> Plan:
        """vLLM's plan of the request."""


STAND_IN_BYTES = 1 << 30
"""KV memory of a question that is asked for the weights alone."""
COUNTED_UNSURE = 0.03
"""Of weights that vLLM's classes hold before kernels lay them out anew."""


def plan_with_budget(request: PlanRequest, ask: Ask, *, count: Ask | None = None) -> Plan:
    """The plan of vLLM's own code; the memory is predicted where no flag says it.

    ``count`` answers in place of ``ask`` where only the weights are asked for.

    Raises:
        UnsupportedError: The stand-alone planner has no rule for the engine, so that nobody knows
            its memory.
    """
    given = request.gives_memory
    if request.gpu == THIS_MACHINE or (given and request.gpu is None):
        return ask(request)
    # vLLM answers for its own version alone
    restated = replace(request, vllm_version=None)
    mine = StandalonePlan(restated)
    try:
        try:
            _ = mine.weights
        except WeightsUnknownError:
            stand_in = {} if given else {"kv_cache_memory_bytes": STAND_IN_BYTES}
            answer = (count or ask)(request.with_args(**stand_in))
            weights = counted(answer, len(mine.setup.cache.stages))
            mine = StandalonePlan(restated, weights=weights)
        memory = mine.memory
    except UnsupportedError as refusal:
        if given:
            answer = ask(request)
            return replace(answer, notes=(*answer.notes, not_held(refusal)))
        raise UnsupportedError(
            f"the memory left for the KV cache is not known ({refusal}); --planner vllm can answer "
            "with --kv-cache-memory-bytes N"
        ) from None
    if given:
        return told(ask(request), mine)
    tightest = min(memory.available)
    if memory.infos[0].requested_bytes is not None and tightest <= 0:
        raise UnsupportedError(
            f"no memory is available for the cache blocks: {gib(tightest)} is left of "
            f"{gib(memory.infos[0].requested_bytes)}; --planner standalone shows the parts"
        )
    # states and caches that keep nothing ask for none
    with_memory = request.with_args(kv_cache_memory_bytes=max(1, tightest))
    return told(ask(with_memory, memory.available), mine)


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


def told(plan: Plan, mine: StandalonePlan) -> Plan:
    """vLLM's plan with the parts of the memory that it was made for, and what they say."""
    cache, memory = plan.kv_cache, mine.memory
    sizes = memory.available
    size = plan.memory.available_kv_cache_bytes
    stage = sizes.index(size) if size in sizes else sizes.index(min(sizes))
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
    if states and plan.verdict == FITS and captures_whole_steps(mine.setup, mine.version):
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
