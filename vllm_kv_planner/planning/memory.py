"""What every rank has for its KV cache: given by the user, or predicted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..engine_args.setup import EngineSetup
from ..errors import ConfigError, PlannerError, UnsupportedError, WeightsUnknownError
from ..records import dataclass, replace
from ..units import GIB, gib
from .headroom import headrooms, no_room, with_given_cache
from .request import UNKNOWN_MACHINE, Machine
from .types import HeadroomInfo, MemoryInfo, StartMemory

if TYPE_CHECKING:
    from ..memory.rank_budget import RankBudget
    from ..memory.versions import VersionRules
    from ..memory.weights import WeightsEstimate


ANY_MEMORY = 1 << 60
"""Bytes, in place of a KV memory that nobody knows; nothing that depends on it is shown."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a GPU has for a KV cache that nobody predicted; bytes.

    Attributes:
        size_bytes: Of the GPU beside weights, activation peak, graphs and the rest; negative where
            these alone are more than there is.
        uncertainty_bytes: How far off that may be.
        total_bytes: The GPU's.
    """

    size_bytes: int
    uncertainty_bytes: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True)
class KVMemory:
    """KV memory of one GPU of each pipeline stage, in bytes.

    Attributes:
        infos: The parts, of every stage.
        available: What is left, a figure for every stage.
        pessimistic: The same if every part is as large as it may be.
        most: The same of the leanest start there is, if every part is as small as it may be; empty
            where the memory was not predicted.
        headrooms: What is left on every stage's GPU after the start; empty where nobody knows.
        rooms: Where the memory is given or nothing is cached: what every stage's GPU has for it;
            empty where it was predicted, or is held against no GPU.
        refusal: Why the engine would not come as far as its KV cache; None where it does.
        doubt: Why it may not; None where it surely does.
        unknown: Why nobody knows what is left; None where somebody does.
        notes: Sentences for the reader.
    """

    infos: tuple[MemoryInfo, ...]
    available: tuple[int, ...]
    pessimistic: tuple[int, ...]
    most: tuple[int, ...] = ()
    headrooms: tuple[HeadroomInfo, ...] = ()
    rooms: tuple[Room, ...] = ()
    refusal: str | None = None
    doubt: str | None = None
    unknown: str | None = None
    notes: tuple[str, ...] = ()

    def info(self, stage: int) -> MemoryInfo:
        """The parts of the rank that decides."""
        return self.infos[stage]

    def headroom(self, stage: int) -> HeadroomInfo | None:
        """What is left on the GPU of the rank that decides."""
        return self.headrooms[stage] if self.headrooms else None


def kv_memory(
    setup: EngineSetup,
    weights: Callable[[], WeightsEstimate],
    vllm_version: str,
    machine: Machine = UNKNOWN_MACHINE,
    *,
    gpu_named: bool = False,
) -> KVMemory:
    """The memory that ``--kv-cache-memory-bytes`` gives, else what the budget leaves.

    Source: vLLM 0.33 ``v1/worker/gpu_worker.py`` ``determine_available_memory``,
    ``multimodal/gpu_ipc_memory.py`` ``reserve_mm_ipc_gpu_memory``; ``EngineCore``
    ``_initialize_kv_caches``: a model without a cache is not profiled.

    Args:
        setup: The engine.
        weights: Counts them, where they are needed.
        vllm_version: Whose rules are used.
        machine: What is known of the GPU beside its name.
        gpu_named: Whether somebody named the GPU, so that given memory is held against it.

    Raises:
        WeightsUnknownError: What is left is to be predicted, and the weights are not known.
    """
    args = setup.args
    stages = len(setup.cache.stages)
    keeps_none = not any(setup.cache.stages)
    if args.kv_cache_memory_bytes is not None:
        reserve = int(args.mm_ipc_gpu_memory_gb * GIB) if setup.model.is_multimodal else 0
        given = args.kv_cache_memory_bytes - reserve
        memory = _known_only(given, "--kv-cache-memory-bytes", stages)
    elif keeps_none:
        gpu_named = True  # nothing else of the plan depends on the GPU
        memory = _known_only(0, "the model keeps no KV cache", stages)
    else:
        overridden = args.num_gpu_blocks_override is not None
        try:
            counted = weights()
        except WeightsUnknownError as refusal:
            if not overridden:
                raise
            return replace(unknown_memory(setup, refusal), unknown=None, notes=(not_held(refusal),))
        memory = predicted(setup, counted, vllm_version, machine)
        if not overridden:
            return replace(memory, rooms=())
        rooms = memory.rooms if gpu_named else ()
        memory = replace(memory, most=(), headrooms=(), rooms=rooms, doubt=None)
        return replace(memory, pessimistic=memory.available)
    if not gpu_named:
        return memory
    try:
        counted = weights()
    except (UnsupportedError, ConfigError) as refusal:  # not known; others are vLLM's own refusals
        return replace(memory, notes=(not_held(refusal),))
    beside = predicted(setup, counted, vllm_version, machine)
    return replace(
        memory,
        infos=tuple(map(_beside, beside.infos, memory.infos)),
        headrooms=tuple(
            with_given_cache(headroom, room.size_bytes, room.uncertainty_bytes, kept)
            for headroom, room, kept in zip(
                beside.headrooms, beside.rooms, memory.available, strict=True
            )
        ),
        rooms=beside.rooms,
        refusal=beside.refusal,
        notes=beside.notes,
    )


def not_held(refusal: PlannerError) -> str:
    """A note where given memory is compared with nothing."""
    return f"the memory was not held against the GPU: {refusal}"


def _known_only(available: int, source: str, stages: int) -> KVMemory:
    """Where nothing but the KV memory is known."""
    info = MemoryInfo(
        requested_bytes=None,
        weights_bytes=None,
        activation_peak_bytes=None,
        cuda_graph_bytes=None,
        non_torch_bytes=None,
        available_kv_cache_bytes=available,
        uncertainty_bytes=0,
        provenance={"available_kv_cache_bytes": source},
    )
    given = (available,) * stages
    return KVMemory(infos=(info,) * stages, available=given, pessimistic=given)


def _beside(info: MemoryInfo, given: MemoryInfo) -> MemoryInfo:
    """The predicted parts beside a KV memory that was not predicted."""
    return replace(
        info,
        requested_bytes=None,
        available_kv_cache_bytes=given.available_kv_cache_bytes,
        uncertainty_bytes=0,
        provenance={**info.provenance, **given.provenance},
    )


def unknown_memory(setup: EngineSetup, refusal: PlannerError) -> KVMemory:
    """Where nobody knows what is left, and why; ``available`` stands for any memory at all."""
    memory = _known_only(ANY_MEMORY, f"not known: {refusal}", len(setup.cache.stages))
    infos = tuple(
        replace(info, available_kv_cache_bytes=None, uncertainty_bytes=None)
        for info in memory.infos
    )
    return replace(memory, infos=infos, unknown=str(refusal))


def predicted(
    setup: EngineSetup, weights: WeightsEstimate, vllm_version: str, machine: Machine
) -> KVMemory:
    """The budget: requested memory less weights, activation peak, graphs and the rest."""
    from ..memory.budget import memory_budget
    from ..memory.rank_budget import Weights
    from ..memory.versions import version_rules

    rules = version_rules(vllm_version)
    known = machine.calibration
    seen = None if known is None else known.weights(setup, vllm_version)
    budget = memory_budget(
        setup,
        lambda stage: (
            Weights(
                size_bytes=weights.loaded_bytes[stage],
                uncertainty_bytes=weights.uncertainty_bytes,
                how=weights.provenance,
            )
            if seen is None
            else seen
        ),
        vllm_version=vllm_version,
        free_memory_bytes=machine.free_memory_bytes,
        other_processes_bytes=machine.other_processes_bytes,
        overheads=None if known is None else known.overheads(vllm_version),
    )
    total = setup.gpu.total_memory_bytes
    return KVMemory(
        infos=tuple(_parts(rank, rules) for rank in budget.ranks),
        available=tuple(rank.available_bytes for rank in budget.ranks),
        pessimistic=tuple(rank.pessimistic_bytes for rank in budget.ranks),
        most=tuple(rank.available_bytes + rank.band_bytes for rank in budget.ranks),
        rooms=tuple(
            Room(
                size_bytes=budget.free_at_start_bytes - rank.beside_cache_bytes,
                uncertainty_bytes=rank.beside_uncertainty_bytes + budget.free_uncertainty_bytes,
                total_bytes=total,
            )
            for rank in budget.ranks
        ),
        refusal=None
        if budget.starts
        else (
            f"free memory at start ({gib(budget.free_at_start_bytes)}) is less than the engine "
            f"asks for ({gib(budget.requested_bytes)})"
        ),
        doubt=None if budget.starts_surely else no_room(budget),
        headrooms=headrooms(setup, budget, rules),
        notes=(*weights.notes, *_leaner(budget.upside_bytes, rules)),
    )


def _leaner(upside: int, rules: VersionRules) -> tuple[str, ...]:
    """What kind of start has more memory, and how much; its share of the band has this reason."""
    if upside < _LITTLE:
        return ()
    planned, leaner = _starts(rules)
    return (f"planned for {planned}; {leaner}, has {gib(upside)} more KV cache memory",)


def _starts(rules: VersionRules) -> tuple[str, str]:
    """The two kinds of start that a version knows: the one planned for, and the leaner one."""
    if rules.measures_lookups:
        return (
            "a first start, which compiles the model",
            "a later start, which finds the compiled model in vLLM's cache",
        )
    return (
        "a start of an image without FlashInfer",
        "a start of an image with FlashInfer installed, which samples with it",
    )


def _kinds(rank: RankBudget, rules: VersionRules) -> tuple[StartMemory, ...]:
    """Each kind of start with its own figure; nothing where all are alike."""
    if rank.upside_bytes < _LITTLE:
        return ()
    sizes = (rank.available_bytes, rank.available_bytes + rank.upside_bytes)
    return tuple(
        StartMemory(
            start=kind, available_kv_cache_bytes=size, uncertainty_bytes=rank.uncertainty_bytes
        )
        for kind, size in zip(_starts(rules), sizes, strict=True)
    )


_LITTLE = 1 << 26
"""Bytes that are no matter of a note."""


def _parts(rank: RankBudget, rules: VersionRules) -> MemoryInfo:
    from ..memory.budget import provenance_of

    return MemoryInfo(
        requested_bytes=rank.requested_bytes,
        weights_bytes=rank.weights.size_bytes,
        activation_peak_bytes=rank.activation.peak_bytes + rank.buffer_bytes,
        cuda_graph_bytes=rank.graphs.deducted_bytes,
        non_torch_bytes=rank.outside.size_bytes,
        available_kv_cache_bytes=rank.available_bytes,
        uncertainty_bytes=rank.band_bytes,
        provenance=provenance_of(rank, rules),
        starts=_kinds(rank, rules),
    )
