"""Predicted and actual side by side, and the reason of every difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..kv_cache.capacity import KVCachePlan
from ..logs.start_log import StartLog
from ..memory.budget import MemoryBudget
from ..memory.rank_budget import RankBudget
from ..records import replace
from ..units import gib
from ..version import VLLM
from .explanation import Explanation
from .measured import ROUNDING, Measured, Part, measured
from .predict import Prediction


def compare(log: StartLog, prediction: Prediction | None, notes: tuple[str, ...]) -> Explanation:
    """Every part that either side knows."""
    budget = None if prediction is None else prediction.budget
    deducts = budget is not None and tightest(budget).graphs.deducted_bytes > 0
    figures = measured(
        log,
        requested=None if budget is None else budget.requested_bytes,
        deducts_graphs=deducts,
    )
    memory = tuple(memory_parts(log, prediction, figures))
    off = tuple(part for part in memory if deducts or part.name != "CUDA graphs, estimated")
    kv = kv_part(log, prediction, figures, off)
    parts = (*memory, kv, *block_parts(log, prediction))
    told = () if prediction is None else prediction.notes
    return Explanation(
        log=log,
        prediction=prediction,
        parts=tuple(
            part for part in parts if part.predicted is not None or part.actual is not None
        ),
        notes=(*log.notes, *notes, *told, *refusal_notes(log, prediction)),
    )


def tightest(budget: MemoryBudget) -> RankBudget:
    """The rank with the least memory left."""
    return min(budget.ranks, key=lambda rank: rank.available_bytes)


def memory_parts(log: StartLog, prediction: Prediction | None, figures: Measured) -> Iterator[Part]:
    """The GPU, what was asked of it, and what came off."""
    budget = None if prediction is None else prediction.budget
    rank = None if budget is None else tightest(budget)
    gpu = None if prediction is None else prediction.setup.gpu
    total = Part(
        name="GPU's total memory",
        unit="bytes",
        predicted=None if gpu is None else gpu.total_memory_bytes,
        actual=figures.total,
    )
    estimated = gpu is not None and gpu.total_memory_is_estimated
    yield part_reason(
        total,
        "the catalogue's figure is estimated from NVML's"
        if estimated
        else "another driver or board than the catalogue's: calibrate keeps this one's",
    )
    free = Part(
        name="free at start",
        unit="bytes",
        predicted=None if budget is None else budget.free_at_start_bytes,
        actual=figures.free,
        band=None if budget is None else budget.free_uncertainty_bytes,
    )
    yield start_reason(free)
    requested = Part(
        name="requested memory",
        unit="bytes",
        predicted=None if budget is None else budget.requested_bytes,
        actual=log.size("requested"),
    )
    yield part_reason(requested, "total x gpu_memory_utilization: follows the total")
    weights = Part(
        name="weights",
        unit="bytes",
        predicted=predicted_weights(prediction, rank),
        actual=figures.weights,
        band=None if rank is None else rank.weights.uncertainty_bytes,
    )
    estimate = None if prediction is None else prediction.weights
    shapes = "" if estimate is None else estimate.provenance
    yield weights_reason(weights, shapes if rank is None else rank.weights.how)
    if rank is None:
        for name, size in (
            ("activation peak", figures.activation),
            ("outside PyTorch", figures.beside),
            ("CUDA graphs, captured", figures.graphs),
        ):
            yield part_reason(Part(name=name, unit="bytes", predicted=None, actual=size), "")
        return
    yield from overhead_parts(rank, figures)


def predicted_weights(prediction: Prediction | None, rank: RankBudget | None) -> int | None:
    """Of the tightest rank; of the fullest stage where there is no budget."""
    if rank is not None:
        return rank.weights.size_bytes
    if prediction is None or prediction.weights is None:
        return None
    return max(prediction.weights.loaded_bytes)


def overhead_parts(rank: RankBudget, figures: Measured) -> Iterator[Part]:
    """Activation, what stays beside the weights, graphs; their sum where the log has only that."""
    beside = rank.outside.size_bytes + rank.buffer_bytes
    graphs = rank.graphs
    if figures.activation is None and figures.beside is None and figures.rest is not None:
        band = rank.uncertainty_bytes - rank.weights.uncertainty_bytes
        together = rank.activation.peak_bytes + beside + graphs.deducted_bytes
        yield part_reason(
            Part(
                name="activation, outside PyTorch, graphs",
                unit="bytes",
                predicted=together,
                actual=figures.rest,
                band=band,
            ),
            "requested less weights and KV memory; a log at DEBUG level, or the line 'Actual usage "
            f"is', tells them apart; of it outside PyTorch {gib(beside)}: {rank.outside.how}",
        )
    else:
        yield part_reason(
            Part(
                name="activation peak",
                unit="bytes",
                predicted=rank.activation.peak_bytes,
                actual=figures.activation,
                band=rank.activation.uncertainty_bytes,
            ),
            rank.activation.how,
        )
        yield part_reason(
            Part(
                name="outside PyTorch",
                unit="bytes",
                predicted=beside,
                actual=figures.beside,
                band=rank.outside.uncertainty_bytes,
            ),
            rank.outside.how,
        )
    if figures.graph_estimate is not None or graphs.deducted_bytes:
        yield part_reason(
            Part(
                name="CUDA graphs, estimated",
                unit="bytes",
                predicted=graphs.estimate_bytes,
                actual=figures.graph_estimate,
                band=graphs.uncertainty_bytes,
            ),
            graphs.how,
        )
    if figures.graphs is not None:
        yield Part(
            name="CUDA graphs, captured",
            unit="bytes",
            predicted=None,
            actual=figures.graphs,
            reason="after the KV cache is sized; not predicted",
        )


def kv_part(
    log: StartLog,
    prediction: Prediction | None,
    figures: Measured,
    memory: tuple[Part, ...],
) -> Part:
    """What is left for the KV cache."""
    given = log.arguments.get("kv_cache_memory_bytes") is not None
    budget = None if prediction is None or given else prediction.budget
    part = Part(
        name="KV cache memory",
        unit="bytes",
        predicted=None if budget is None else budget.available_kv_cache_bytes,
        actual=figures.kv,
        band=None if budget is None else budget.uncertainty_bytes,
    )
    if given:
        return kv_reason(part, (), "given with --kv-cache-memory-bytes, not profiled")
    return kv_reason(part, memory, "")


def block_parts(log: StartLog, prediction: Prediction | None) -> Iterator[Part]:
    """Blocks, tokens and concurrency; the log's against those of the predicted memory."""
    blocks = None if prediction is None else prediction.blocks
    actual = None if prediction is None else prediction.at_actual
    where = "CPU" if log.on_cpu else "GPU"
    rows: tuple[tuple[str, str, str, Callable[[KVCachePlan], float]], ...] = (
        (f"{where} blocks", "count", "blocks", lambda plan: plan.num_gpu_blocks),
        (f"{where} KV cache size", "count", "tokens", lambda plan: plan.kv_cache_size_tokens),
        ("maximum concurrency", "times", "concurrency", lambda plan: plan.max_concurrency),
    )
    for name, unit, measure, figure in rows:
        said = log.value(measure)
        part = Part(
            name=name,
            unit=unit,
            predicted=None if blocks is None else figure(blocks),
            actual=said,
        )
        again = None if actual is None else figure(actual)
        yield blocks_reason(part, again, log.kv_bytes, ROUNDING)


def refusal_notes(log: StartLog, prediction: Prediction | None) -> Iterator[str]:
    """What the engine gave up with, and what would have been said."""
    if log.refusal is None:
        return
    yield f"the engine did not start: {log.refusal}"
    needed, left = log.size("needed"), log.kv_bytes
    if needed is not None and left is not None:
        yield f"one request needed {gib(needed)} and {gib(left)} was left"
    budget = None if prediction is None else prediction.budget
    if prediction is None or budget is None:
        return
    blocks = prediction.blocks
    if not budget.starts:
        yield "predicted: it does not start, for less memory is free than it asks for"
    elif blocks is not None and not blocks.fits:
        yield "predicted: it does not fit"
    elif budget.pessimistic_bytes <= 0 or not budget.starts_surely:
        yield "predicted: borderline"
    else:
        yield "predicted: it fits; the figures above show what came otherwise"


SAME = "agrees"
INSIDE = "within its margin"
BEYOND = "beyond its margin"
ROUNDED = {"times": 0.01}
"""What a figure's last printed digit is worth; blocks and tokens are printed whole."""


def part_reason(part: Part, how: str) -> Part:
    """The part with where its prediction comes from, and whether its margin holds."""
    if part.difference is None:
        missing = "the log does not say" if part.actual is None else "not predicted"
        return replace(part, reason=missing)
    if part.agrees:
        return replace(part, reason=SAME)
    if part.band is None:
        return replace(part, reason=how or "differs")
    held = INSIDE if part.within_band else BEYOND
    return replace(part, reason=f"{held} ({gib(int(part.band))}); {how}" if how else held)


def start_reason(part: Part) -> Part:
    """Free memory: less than an idle GPU has means that something else is on it."""
    difference = part.difference
    if difference is not None and difference < 0 and not part.within_band and not part.agrees:
        other = gib(int(-difference))
        return replace(
            part,
            reason=f"other processes hold about {other}: plan with --other-processes",
        )
    return part_reason(part, "an idle GPU as measured elsewhere")


def weights_reason(part: Part, how: str) -> Part:
    """Weights are derived from tensor shapes: a difference is a layer or a kernel's layout."""
    told = part_reason(part, how)
    if told.difference is None or told.agrees or told.within_band:
        return told
    more = "more" if told.difference > 0 else "less"
    why = f"a layer, a draft, an adapter or a kernel's layout takes {more} than the shapes say"
    return replace(told, reason=f"{told.reason}; {why}")


def kv_reason(part: Part, memory: Sequence[Part], given: str) -> Part:
    """KV memory is what the other parts leave: name those that made the difference."""
    if given:
        return replace(part, reason=given)
    difference = part.difference
    if difference is None or part.agrees:
        return part_reason(part, "")
    signs = {
        "requested memory": 1,
        "weights": -1,
        "activation peak": -1,
        "outside PyTorch": -1,
        "activation, outside PyTorch, graphs": -1,
        "CUDA graphs, estimated": -1,
    }
    causes = [
        (signs[each.name] * each.difference, each.name)
        for each in memory
        if each.name in signs and each.difference is not None and not each.agrees
    ]
    causes.sort(key=lambda cause: -abs(cause[0]))
    named = ", ".join(f"{name} {'+' if size > 0 else ''}{gib(int(size))}" for size, name in causes)
    held = INSIDE if part.within_band else BEYOND
    margin = "" if part.band is None else f"{held} ({gib(int(part.band))}); "
    return replace(part, reason=f"{margin}{f'from {named}' if named else 'no part shows why'}")


def blocks_reason(part: Part, again: float | None, kv: int | None, rounding: int) -> Part:
    """Blocks follow the memory: the engine's own KV memory, divided by our rules, tells."""
    if part.actual is None or again is None or kv is None:
        return part_reason(part, "")
    if part.agrees:
        return replace(part, reason=SAME)
    # the log rounds the memory: the same rules may miss by as much
    last_digit = ROUNDED.get(part.unit, 1.0)
    slack = last_digit + (rounding / kv * abs(part.actual) if kv > 0 and rounding > 0 else 0.0)
    shown = f"{again:,.2f}x" if part.unit == "times" else f"{again:,.0f}"
    if abs(again - part.actual) <= slack:
        how = f"follows from the KV memory: the same rules give {shown} for the log's"
        return replace(part, reason=how)
    return replace(
        part,
        reason=f"the rules of {VLLM} give {shown} for the engine's own KV memory: it divides it "
        "in another way (groups, block size or an older way of counting)",
    )
