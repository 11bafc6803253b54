"""What a log teaches, beside the plan made for the same engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..calibration.start_record import (
    LONGEST_TEXT,
    SLACK,
    StartRecord,
    minor_version,
    read_start_record,
    weights_key,
)
from ..errors import InputError, printable
from ..gpu.catalogue import sized_name
from ..gpu.gpu import GPU
from ..logs.start_log import StartLog
from ..memory.activation import engine_of
from ..memory.rank import Rank
from ..memory.rank_budget import RankBudget
from ..memory.versions import version_rules
from ..records import dataclass
from ..report import Answer
from ..report.document import Document, lines_of, noted
from ..units import gib
from .measured import ROUNDING, Measured, measured
from .predict import Given, Prediction, predict


def learn(log: StartLog, given: Given, *, today: str) -> StartRecord:
    """The record of one start.

    Args:
        log: The log.
        given: What fills its gaps.
        today: The day, as YYYY-MM-DD.

    Raises:
        PlannerError: The engine cannot be planned, or the log teaches nothing.
    """
    check_signs(log)
    prediction = predict(log, given)
    minor_version(prediction.version)
    setup, budget = prediction.setup, prediction.budget
    rank = None if budget is None else budget.tightest
    deducts = rank is not None and rank.graphs.deducted_bytes > 0
    figures = measured(
        log,
        requested=None if budget is None else budget.requested_bytes,
        deducts_graphs=deducts,
    )
    check_believable(log, figures, prediction)
    outside, spread = outside_of(prediction, log)
    estimate = figures.graph_estimate
    args = setup.args
    record = StartRecord(
        device=device_name(setup.gpu, figures.total),
        vllm_version=prediction.version,
        model=printable(args.model)[:LONGEST_TEXT],
        weights_key=weights_key(args.model, setup.resolved.dtype.name, args),
        tensor_parallel_size=args.tensor_parallel_size,
        pipeline_parallel_size=args.pipeline_parallel_size,
        attention_backend=next(iter(setup.cache.backends), None),
        activation_key=activation_key(prediction),
        activation_bytes=figures.activation,
        total_bytes=figures.total,
        taken_at_start_bytes=taken_at_start(figures),
        weights_bytes=figures.weights,
        outside_bytes=outside,
        outside_spread_bytes=spread,
        graph_estimate_bytes=estimate,
        graph_predicted_bytes=rank.graphs.estimate_bytes if rank and estimate else None,
        source=printable(log.where.replace("\\", "/").rsplit("/", 1)[-1][:200]),
        learned=today,
    )
    if not any(
        (figures.total, record.taken_at_start_bytes, record.weights_bytes, outside, estimate)
    ):
        raise InputError("tells nothing that a plan could use")
    return read_start_record(record.to_dict())


def check_signs(log: StartLog) -> None:
    """Refuse figures below nothing.

    Raises:
        InputError: Says which.
    """
    for name, printed in log.measures.items():
        # what is left may be less than nothing, and memory outside PyTorch a rounding below it
        least = {"kv": -1e9, "non_torch": -1.0}.get(name, 0.0)
        if min(printed.values()) < least:
            raise InputError(f"{PRINTED.get(name, name)} of {min(printed.values())} cannot be")


def check_believable(log: StartLog, figures: Measured, prediction: Prediction) -> None:
    """Refuse a log whose figures cannot be those of one start on one device.

    Raises:
        InputError: Says which figure, and why it cannot be.
    """
    total = figures.total or prediction.setup.gpu.total_memory_bytes
    for label, size in sizes_of(log, figures):
        if size is not None and size > total * (1 + SLACK):
            raise InputError(f"{label} of {gib(size)} on a GPU of {gib(total)}: cannot be")
    check_weights(figures, prediction)
    check_sums(log, figures)


PRINTED = {
    "load": "weights",
    "graph_estimate": "CUDA graphs",
    "graphs": "CUDA graphs",
    "torch_peak": "activation",
}
"""Measures by what they are of."""


def sizes_of(log: StartLog, figures: Measured) -> tuple[tuple[str, int | None], ...]:
    """Figures none of which can be above the total."""
    return (
        ("requested memory", log.size("requested")),
        ("free memory", figures.free),
        ("weights", figures.weights),
        ("activation", figures.activation),
        ("memory outside PyTorch", figures.beside),
        ("CUDA graphs", figures.graph_estimate),
        ("CUDA graphs", figures.graphs),
        ("KV cache memory", figures.kv),
    )


def check_sums(log: StartLog, figures: Measured) -> None:
    """Refuse parts that are more, or less, than what they are parts of.

    Raises:
        InputError: Names the sum.
    """
    total, requested, share = figures.total, log.size("requested"), log.value("utilization")
    if total and requested and share and abs(total * share - requested) > total * SLACK:
        raise InputError(f"{gib(requested)} requested is not {share} of {gib(total)}: cannot be")
    whole, weights, kv = figures.requested, figures.weights, figures.kv
    if whole is None or weights is None:
        return
    slack = int(whole * SLACK) + (1 << 28)
    peak = figures.activation or 0
    if weights + peak > whole + slack and kv is not None and kv > 0:
        raise InputError(
            f"weights of {gib(weights)} and activation of {gib(peak)} in {gib(whole)} requested: "
            "do not add up"
        )
    if figures.rest is None or figures.kv is None:
        return
    if figures.rest < -slack:
        raise InputError(
            f"weights of {gib(weights)} and KV cache of {gib(figures.kv)} in {gib(whole)} "
            "requested: do not add up"
        )
    consumed, outside = log.size("consumed"), log.size("non_torch")
    beside = outside if consumed is None else consumed - weights
    if beside is None or figures.activation is None:
        return
    missing = figures.rest - figures.activation - beside
    if min(abs(missing), abs(missing - (figures.graph_estimate or 0))) > slack:
        raise InputError(
            f"the parts of {gib(whole)} requested do not add up: {gib(abs(missing))} "
            f"{'is missing' if missing > 0 else 'too much'}"
        )


def check_weights(figures: Measured, prediction: Prediction) -> None:
    """Refuse weights that the model's tensors cannot have, where these are known.

    Raises:
        InputError: Half of what they must be, or half as much again.
    """
    known = prediction.weights
    if figures.weights is None or known is None:
        return
    least, most = min(known.loaded_bytes), max(known.loaded_bytes)
    slack = 2 * known.uncertainty_bytes + (1 << 27)
    if not least // 2 - slack <= figures.weights <= most * 3 // 2 + slack:
        raise InputError(
            f"weights of {gib(figures.weights)} cannot be those of {prediction.setup.args.model}, "
            f"which has {gib(most)} on a rank: is --model the model of this log?"
        )


def activation_key(prediction: Prediction) -> str | None:
    """The engine, where it has one stage and its version's rules are known."""
    setup = prediction.setup
    if prediction.budget is None or setup.args.pipeline_parallel_size > 1:
        return None
    return engine_of(Rank(setup=setup, rules=version_rules(prediction.version)))


def device_name(gpu: GPU, total: int | None) -> str:
    """The catalogue's short name; with the total where a slice of the device was seen."""
    return gpu.short_name if total is None else sized_name(gpu.short_name, total)


def taken_at_start(figures: Measured) -> int | None:
    """Gone before the engine looked first; None where other processes must hold some of it."""
    if figures.free is None or figures.total is None:
        return None
    taken = max(0, figures.total - figures.free)
    return taken if taken <= MOST_AT_START else None


MOST_AT_START = 4 << 30
"""Context, NCCL and a desktop take less; what is beyond is another program's."""


def outside_of(prediction: Prediction, log: StartLog) -> tuple[int | None, int]:
    """Memory outside PyTorch and how far off it may be.

    Printed, or what requested memory, weights, KV memory and the derived activation leave: then as
    unsure as the activation is, and as the total where the log does not print that.
    """
    budget = prediction.budget
    if budget is None:
        return None, 0
    rank, graphs = budget.tightest, budget.tightest.graphs
    figures = measured(
        log, requested=budget.requested_bytes, deducts_graphs=graphs.deducted_bytes > 0
    )
    if figures.beside is not None:
        return max(0, without_table(rank, figures.beside - rank.buffer_bytes)), 2 * ROUNDING
    if figures.rest is None:
        return None, 0
    spread = 3 * ROUNDING + rank.activation.uncertainty_bytes
    deducted = 0
    if graphs.deducted_bytes:
        if figures.graph_estimate is None:
            return None, 0
        deducted = figures.graph_estimate
    left = figures.rest - rank.activation.peak_bytes - rank.buffer_bytes - deducted
    left = without_table(rank, left)
    requested_is_known = log.size("requested") is not None
    if not requested_is_known and prediction.setup.gpu.total_memory_is_estimated:
        return None, 0
    # what is plainly not memory outside PyTorch teaches nothing about it
    return (left, spread) if -spread <= left <= rank.requested_bytes // 8 else (None, 0)


def without_table(rank: RankBudget, outside: int) -> int:
    """What was found outside PyTorch, less the second embedding table if this start has kept one.

    The table is the model's, and planned for where it is due; the rest is the device's.
    """
    usual = rank.outside.size_bytes - rank.outside.cold_bytes
    return min(outside, outside - rank.outside.cold_bytes, key=lambda each: abs(each - usual))


LABELS = {
    "total_bytes": "GPU's total memory",
    "taken_at_start_bytes": "taken before the start",
    "weights_bytes": "weights",
    "activation_bytes": "activation peak",
    "outside_bytes": "outside PyTorch",
    "graph_estimate_bytes": "CUDA graphs, estimated",
}


@dataclass(frozen=True, kw_only=True)
class Learned(Answer):
    """Records, and the file that keeps them.

    Attributes:
        file: Its path.
        records: One a log, as the file holds them.
        notes: Sentences for the reader.
    """

    file: str
    records: tuple[StartRecord, ...]
    notes: tuple[str, ...]

    def document(self) -> Document:
        """One paragraph a log."""
        kept = (f"kept in {self.file}", *noted(self.notes))
        lines = (line for each in self.records for line in start_record_lines(each))
        return Document(sections=(lines_of((*lines, *kept)),))

    def to_dict(self) -> dict[str, Any]:
        """As the file holds them."""
        records = [each.to_dict() for each in self.records]
        return {"file": self.file, "lessons": records, "notes": [*self.notes]}


def start_record_lines(record: StartRecord) -> Iterator[str]:
    """The start, and its figures below it."""
    yield f"{record.source}: {record.model} on {record.device}, vLLM {record.vllm_version}"
    for name, label in LABELS.items():
        size = getattr(record, name)
        told = "not told" if size is None else gib(size)
        if name == "outside_bytes" and size is not None:
            told += f", give or take {gib(record.outside_spread_bytes)}"
        yield f"  {label:<24}{told}"
