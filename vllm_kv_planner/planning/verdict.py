"""Does the engine start? One word, and the sentences that decide against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..kv_cache.capacity import KVCachePlan, WorkerBlocks
from ..kv_cache.specs import MambaSpec
from ..records import dataclass
from ..units import gib
from .types import BORDERLINE, DOES_NOT_FIT, FITS

if TYPE_CHECKING:
    from ..engine_args.setup import EngineSetup
    from .memory import KVMemory


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What becomes of a start.

    Attributes:
        word: ``fits``, ``borderline`` or ``does_not_fit``.
        limits: What decides against it, the worst first; empty where it fits.
    """

    word: str
    limits: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """The limits as notes of the plan."""
        start = "borderline: " if self.word == BORDERLINE else ""
        return tuple(start + each for each in self.limits)

    def joined(self, other: Verdict) -> Verdict:
        """Both together: the worse word, and its reasons."""
        if self.word == other.word:
            limits = dict.fromkeys((*self.limits, *other.limits))
            return Verdict(word=self.word, limits=tuple(limits))
        return max(self, other, key=lambda each: _BADNESS[each.word])


_BADNESS = {FITS: 0, BORDERLINE: 1, DOES_NOT_FIT: 2}
SURE = Verdict(word=FITS)
NONE_LEFT = "no memory is available for the cache blocks"


def judged(
    setup: EngineSetup,
    memory: KVMemory,
    blocks: KVCachePlan,
    pessimistic: KVCachePlan,
    vllm_version: str,
    optimistic: KVCachePlan | None = None,
) -> Verdict:
    """The verdict on an engine whose memory is divided.

    Args:
        setup: The engine.
        memory: KV memory of every rank.
        blocks: That memory in blocks.
        pessimistic: The blocks if every part of the budget is as large as it may be.
        vllm_version: Whose rules are used.
        optimistic: The blocks of the leanest start there is; None where they are not asked for.
    """
    if memory.refusal is not None:
        return Verdict(word=DOES_NOT_FIT, limits=(memory.refusal,))
    if memory.unknown is not None:
        return Verdict(word=BORDERLINE, limits=(memory.unknown,))
    verdict = SURE
    for each in _doubts(setup, memory, blocks, pessimistic, vllm_version, optimistic):
        verdict = verdict.joined(each)
    return verdict


def _doubts(
    setup: EngineSetup,
    memory: KVMemory,
    blocks: KVCachePlan,
    pessimistic: KVCachePlan,
    vllm_version: str,
    optimistic: KVCachePlan | None,
) -> Iterator[Verdict]:
    if not blocks.fits and optimistic is not None and optimistic.fits:
        yield Verdict(word=BORDERLINE, limits=(_only_if_more(memory, blocks, optimistic),))
    elif not blocks.fits:
        yield Verdict(word=DOES_NOT_FIT, limits=(refusal(blocks),))
    elif not pessimistic.fits:
        yield Verdict(word=BORDERLINE, limits=(_only_if_exact(memory, blocks, pessimistic),))
    elif memory.doubt is not None:
        yield Verdict(word=BORDERLINE, limits=(memory.doubt,))
    taken = [blocks.num_gpu_blocks * worker.bytes_per_block for worker in blocks.workers]
    yield held_against_gpu(memory, taken)
    if needs_states(setup, blocks, vllm_version):
        yield states_for_all(
            setup.resolved.batch.max_num_seqs, blocks.num_gpu_blocks, pessimistic.num_gpu_blocks
        )


def _only_if_exact(memory: KVMemory, blocks: KVCachePlan, pessimistic: KVCachePlan) -> str:
    stage = blocks.tightest
    margin = gib(memory.available[stage] - memory.pessimistic[stage])
    shortest, longest = pessimistic.max_model_len_that_fits, blocks.max_model_len_that_fits
    return (
        f"fits only if the prediction is not {margin} too high; the estimated maximum model length "
        f"is {shortest:,} to {longest:,}"
    )


def _only_if_more(memory: KVMemory, blocks: KVCachePlan, optimistic: KVCachePlan) -> str:
    more = gib(memory.most[blocks.tightest] - memory.available[blocks.tightest])
    shortest, longest = blocks.max_model_len_that_fits, optimistic.max_model_len_that_fits
    return (
        f"fits only if the prediction is too low, by up to {more}; the estimated maximum model "
        f"length is {shortest:,} to {longest:,}"
    )


def refusal(blocks: KVCachePlan) -> str:
    """vLLM's refusal with its figures: what one request needs, what there is, what would fit.

    Of the rank whose figures are shown, unless that one alone would start.
    """
    worker = blocks.workers[blocks.tightest]
    if worker.fits:
        worker = max(blocks.workers, key=_missing)
    if worker.num_blocks == 0:
        return NONE_LEFT
    if blocks.max_model_len_that_fits == 0:
        longest = "not even one token fits"
    else:
        longest = f"the estimated maximum model length is {blocks.max_model_len_that_fits:,}"
    return (
        f"one request of max_model_len {blocks.max_model_len:,} needs {gib(worker.needed_bytes)} "
        f"of KV cache, which is more than the {gib(max(worker.usable_bytes, 0))} available (one "
        f"block of it is held back); {longest}"
    )


def _missing(worker: WorkerBlocks) -> int:
    return worker.needed_bytes - worker.usable_bytes


def held_against_gpu(memory: KVMemory, taken: list[int]) -> Verdict:
    """KV memory that nobody predicted, against what the GPU has beside everything else.

    vLLM allocates what ``--kv-cache-memory-bytes`` or ``--num-gpu-blocks-override`` say, and takes
    what a model without a cache needs, whatever the GPU has: the start ends out of memory.

    Args:
        memory: With ``rooms`` where there is something to hold against.
        taken: Bytes of the KV cache, of every stage; empty where the model keeps none.
    """
    verdict = SURE
    for stage, room in enumerate(memory.rooms):
        kept = taken[stage] if taken else 0
        over = kept - room.size_bytes
        if over <= -room.uncertainty_bytes:
            continue
        total, rest = gib(room.total_bytes), gib(room.total_bytes - room.size_bytes)
        what = f"a KV cache of {gib(kept)} and {rest} beside it" if kept else f"{rest} and more"
        where = f"GPU of pipeline stage {stage}" if len(memory.rooms) > 1 else "GPU"
        sentence = (
            f"the engine takes {what} (weights, activation peak, CUDA graphs, context), and the "
            f"{where} has {total}"
        )
        if over > room.uncertainty_bytes:
            found = Verdict(word=DOES_NOT_FIT, limits=(sentence,))
        else:
            margin = gib(room.uncertainty_bytes)
            found = Verdict(word=BORDERLINE, limits=(f"{sentence}, give or take {margin}",))
        verdict = verdict.joined(found)
    return verdict


def needs_states(setup: EngineSetup, blocks: KVCachePlan, vllm_version: str) -> bool:
    """Whether the engine starts only with a block for every sequence's state."""
    groups = () if blocks.worker is None else blocks.worker.groups
    return any(
        isinstance(spec, MambaSpec) for group in groups for spec, _ in group.distinct
    ) and captures_whole_steps(setup, vllm_version)


def states_for_all(max_num_seqs: int, blocks: int, pessimistic: int) -> Verdict:
    """Every sequence of a captured decode step needs a block for its state.

    Source: vLLM 0.33 ``CompilationConfig.resolve_cudagraph_mode_and_sizes``, called by both model
    runners once the KV cache is there.

    Args:
        max_num_seqs: Sequences of a step.
        blocks: The engine's blocks, likely.
        pessimistic: The same if every part of the memory is as large as it may be.
    """
    if max_num_seqs <= pessimistic:
        return SURE
    exceeds = (
        f"max_num_seqs ({max_num_seqs:,}) exceeds available Mamba cache blocks ({blocks:,}): each "
        "decode sequence requires one, so vLLM does not capture CUDA graphs"
    )
    if max_num_seqs > blocks + (blocks - pessimistic):
        most = f"max_num_seqs may be {pessimistic:,} at most" if pessimistic > 0 else "none is left"
        return Verdict(word=DOES_NOT_FIT, limits=(f"{exceeds}; {most}",))
    return Verdict(
        word=BORDERLINE,
        limits=(
            f"may be refused: max_num_seqs ({max_num_seqs:,}) must not exceed the Mamba cache "
            f"blocks, {pessimistic:,} to {2 * blocks - pessimistic:,} of them",
        ),
    )


def captures_whole_steps(setup: EngineSetup, vllm_version: str) -> bool:
    """Whether the engine captures full CUDA graphs, and refuses where states are too few."""
    if setup.args.enforce_eager:
        return False
    from ..memory.cuda_graphs import captures_full
    from ..memory.rank import Rank
    from ..memory.versions import version_rules

    rules = version_rules(vllm_version)
    return rules.refuses_sequences_without_state and captures_full(Rank(setup=setup, rules=rules))
