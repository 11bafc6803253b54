"""vLLM's own blocks under our budget: vLLM profiles a running engine, and here none runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import UnsupportedError, WeightsUnknownError
from ..planning.memory import KVMemory, not_held
from ..planning.parts import draft_notes, host_info, host_note
from ..planning.request import PlanRequest
from ..planning.standalone import StandalonePlan
from ..planning.types import BORDERLINE, DOES_NOT_FIT, FITS, Plan
from ..planning.verdict import (
    NONE_LEFT,
    Verdict,
    captures_whole_steps,
    held_against_gpu,
    states_for_all,
)
from ..records import replace
from .client import THIS_MACHINE
from .executed import Executed

if TYPE_CHECKING:
    from ..memory.weights import WeightsEstimate


class Ask(Protocol):
    """A request, and the KV memory of every pipeline stage where it is predicted: vLLM's plan."""

    def __call__(self, request: PlanRequest, stage_memory: Sequence[int] | None = None) -> Plan:
        """vLLM's plan of the request."""


class Profile(Protocol):
    """A request: what vLLM's own profile run holds; see ``internals/profile_run.py``."""

    def __call__(self, request: PlanRequest) -> dict[str, Any]:
        """The child's answer."""


STAND_IN_BYTES = 1 << 30
"""KV memory of a question that is asked for the weights alone."""
COUNTED_UNSURE = 0.03
"""Of weights that vLLM's classes hold before kernels lay them out anew."""


def plan_with_budget(
    request: PlanRequest, ask: Ask, *, count: Ask | None = None, profile: Profile | None = None
) -> Plan:
    """The plan of vLLM's own code; the memory is predicted where no flag says it.

    ``count`` answers in place of ``ask`` where only the weights are asked for. ``profile`` executes
    vLLM's own profile run; without it every part of the memory is restated.

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
    executed = Executed()
    try:
        if profile is not None and not given:
            _ = mine.setup
            executed = Executed.of(profile(request))
        mine = with_weights(mine, executed, count or ask)
        memory = executed.memory(mine)
    except UnsupportedError as refusal:
        if given:
            answer = ask(request)
            return replace(answer, notes=(*answer.notes, not_held(refusal)))
        raise UnsupportedError(
            f"the memory left for the KV cache is not known ({refusal}); --planner vllm can answer "
            "with --kv-cache-memory-bytes N"
        ) from None
    if given:
        return told(ask(request), mine, memory)
    # where nothing is left vLLM is asked for the sizes; nor do caches that keep nothing ask for any
    stages = [max(1, size) for size in memory.available]
    return told(ask(request.with_args(kv_cache_memory_bytes=min(stages)), stages), mine, memory)


def with_weights(mine: StandalonePlan, executed: Executed, count: Ask) -> StandalonePlan:
    """The stages with vLLM's own weights, where they were loaded or nobody else knows them."""
    request = mine.request
    try:
        unsure = mine.weights.uncertainty_bytes
    except WeightsUnknownError:
        size = executed.weights_bytes
        if size is None:
            stand_in = {} if request.gives_memory else {"kv_cache_memory_bytes": STAND_IN_BYTES}
            answer = count(request.with_args(**stand_in))
            weights = counted(answer, len(mine.setup.cache.stages))
            return StandalonePlan(request, weights=weights)
        unsure = int(size * COUNTED_UNSURE)
    loaded = executed.weights(unsure)
    return mine if loaded is None else StandalonePlan(request, weights=loaded)


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


def told(plan: Plan, mine: StandalonePlan, memory: KVMemory) -> Plan:
    """vLLM's plan with the parts of the memory that it was made for, and what they say."""
    cache = plan.kv_cache
    sizes = memory.available
    size = plan.memory.available_kv_cache_bytes
    stage = sizes.index(size) if size in sizes else sizes.index(min(sizes))
    info = memory.info(stage)
    verdict = Verdict(word=plan.verdict, limits=plan.limits)
    notes = plan.notes
    none_left = info.requested_bytes is not None and min(sizes) <= 0
    if none_left:
        verdict = Verdict(word=DOES_NOT_FIT, limits=(NONE_LEFT,))
        notes = tuple(note for note in notes if note not in plan.limits)
        cache = replace(
            cache,
            num_gpu_blocks=0,
            kv_cache_size_tokens=0,
            max_concurrency=0.0,
            max_model_len_that_fits=0,
        )
    if memory.refusal is not None:
        verdict = verdict.joined(Verdict(word=DOES_NOT_FIT, limits=(memory.refusal,)))
    if memory.doubt is not None:
        verdict = verdict.joined(Verdict(word=BORDERLINE, limits=(memory.doubt,)))
    blocks, per_block = cache.num_gpu_blocks or 0, cache.bytes_per_block
    taken = [blocks * per_block] * len(sizes) if cache.groups else []
    verdict = verdict.joined(held_against_gpu(memory, taken))
    states = any(group.kind == "mamba" for group in cache.groups)
    judged_here = plan.verdict == FITS or none_left
    if states and judged_here and captures_whole_steps(mine.setup, mine.version):
        unsure = 0 if none_left else sizes[stage] - memory.pessimistic[stage]
        least = blocks - unsure // max(per_block, 1)
        verdict = verdict.joined(states_for_all(plan.engine.max_num_seqs, blocks, least))
    new = [each for each in verdict.notes if each not in notes]
    host = host_info(mine.setup)
    return replace(
        plan,
        memory=info,
        kv_cache=cache,
        verdict=verdict.word,
        limits=verdict.limits,
        host=host,
        headroom=memory.headroom(stage),
        fits=verdict.word == FITS,
        notes=(*new, *host_note(host), *memory.notes, *draft_notes(mine.setup), *notes),
    )
