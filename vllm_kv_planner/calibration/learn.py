"""What a log teaches, beside the plan made for the same engine."""

from __future__ import annotations

from ..errors import InputError
from ..explain.compare import tightest
from ..explain.measured import Measured, measured
from ..explain.part import ROUNDING
from ..explain.predict import Given, Prediction, predict
from ..gpu.catalogue import sized_name
from ..gpu.gpu import GPU
from ..logs.start_log import StartLog
from ..memory.activation import engine_of
from ..memory.rank import Rank
from ..memory.versions import version_rules
from .lesson import Lesson, minor_version, weights_key


def learn(log: StartLog, given: Given, *, today: str) -> Lesson:
    """The lesson of one start.

    Args:
        log: The log.
        given: What fills its gaps.
        today: The day, as YYYY-MM-DD.

    Raises:
        PlannerError: The engine cannot be planned, or the log teaches nothing.
    """
    prediction = predict(log, given)
    minor_version(prediction.version)
    setup, budget = prediction.setup, prediction.budget
    rank = None if budget is None else tightest(budget)
    deducts = rank is not None and rank.graphs.deducted_bytes > 0
    figures = measured(
        log,
        requested=None if budget is None else budget.requested_bytes,
        deducts_graphs=deducts,
    )
    outside, spread = outside_of(prediction, log)
    estimate = figures.graph_estimate
    args = setup.args
    lesson = Lesson(
        device=device_name(setup.gpu, figures.total),
        vllm_version=prediction.version,
        model=args.model,
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
        source=log.where.replace("\\", "/").rsplit("/", 1)[-1][:200],
        learned=today,
    )
    if not any(
        (figures.total, lesson.taken_at_start_bytes, lesson.weights_bytes, outside, estimate)
    ):
        raise InputError(f"{lesson.source}: it tells nothing that a plan could use")
    return lesson


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
    rank = tightest(budget)
    graphs = rank.graphs
    figures = measured(
        log, requested=budget.requested_bytes, deducts_graphs=graphs.deducted_bytes > 0
    )
    if figures.beside is not None:
        return max(0, figures.beside - rank.buffer_bytes), 2 * ROUNDING
    if figures.rest is None:
        return None, 0
    spread = 3 * ROUNDING + rank.activation.uncertainty_bytes
    deducted = 0
    if graphs.deducted_bytes:
        if figures.graph_estimate is None:
            return None, 0
        deducted = figures.graph_estimate
    left = figures.rest - rank.activation.peak_bytes - rank.buffer_bytes - deducted
    requested_is_known = log.size("requested") is not None
    if not requested_is_known and prediction.setup.gpu.total_memory_is_estimated:
        return None, 0
    # what is plainly not memory outside PyTorch teaches nothing about it
    return (left, spread) if -spread <= left <= rank.requested_bytes // 8 else (None, 0)
