"""Predicted and actual side by side, and the reason of every difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..kv_cache.capacity import KVCachePlan
from ..logs.start_log import StartLog
from ..memory.rank_budget import RankBudget
from ..units import gib
from .after_start import ended_notes, left_parts, refusal_notes
from .explanation import Explanation
from .measured import ROUNDING, Measured, Part, measured
from .predict import Prediction
from .reasons import blocks_reason, kv_reason, part_reason, start_reason, weights_reason


def compare(log: StartLog, prediction: Prediction | None, notes: tuple[str, ...]) -> Explanation:
    """Every part that either side knows."""
    budget = None if prediction is None else prediction.budget
    deducts = budget is not None and budget.tightest.graphs.deducted_bytes > 0
    figures = measured(
        log,
        requested=None if budget is None else budget.requested_bytes,
        deducts_graphs=deducts,
    )
    memory = tuple(memory_parts(log, prediction, figures))
    off = tuple(part for part in memory if deducts or part.name != "CUDA graphs, estimated")
    kv = kv_part(log, prediction, figures, off)
    left = left_parts(prediction, figures, deducts=deducts)
    parts = (*memory, kv, *left, *block_parts(log, prediction))
    told = () if prediction is None else prediction.notes
    return Explanation(
        log=log,
        prediction=prediction,
        parts=tuple(
            part for part in parts if part.predicted is not None or part.actual is not None
        ),
        notes=(
            *log.notes,
            *notes,
            *told,
            *refusal_notes(log, prediction),
            *ended_notes(log, prediction),
        ),
    )


def memory_parts(log: StartLog, prediction: Prediction | None, figures: Measured) -> Iterator[Part]:
    """The GPU, what was asked of it, and what came off."""
    budget = None if prediction is None else prediction.budget
    rank = None if budget is None else budget.tightest
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
