"""After the KV cache, as a log tells it: a refusal, what is left, how the engine ended."""

from __future__ import annotations

from collections.abc import Iterator

from ..logs.start_log import StartLog
from ..memory.headroom import risks
from ..memory.rank import Rank
from ..memory.versions import version_rules
from ..units import gib
from .measured import Measured, Part
from .predict import Prediction
from .reasons import part_reason


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


def left_parts(
    prediction: Prediction | None, figures: Measured, *, deducts: bool
) -> Iterator[Part]:
    """What is left on the GPU once graphs are captured, where the log tells enough."""
    budget = None if prediction is None else prediction.budget
    if budget is None or figures.free is None or figures.requested is None:
        return
    rank = budget.tightest
    captured = figures.graphs
    if captured is None:
        return
    deducted = (figures.graph_estimate or 0) if deducts else 0
    beside = rank.uncounted_bytes + rank.activation.beyond_bytes
    yield part_reason(
        Part(
            name="left on the GPU",
            unit="bytes",
            predicted=budget.left_bytes(rank),
            actual=figures.free - figures.requested + deducted - captured - beside,
            band=budget.left_uncertainty_bytes(rank),
        ),
        "free at start less requested memory and what the start took beyond it",
    )


def ended_notes(log: StartLog, prediction: Prediction | None) -> Iterator[str]:
    """How the engine ran out of memory under load, and which risk it had been."""
    ended = log.ended
    if ended is None:
        return
    yield f"it ran out of memory after the start: {ended.line}"
    if prediction is None or prediction.budget is None:
        return
    budget = prediction.budget
    part = budget.tightest
    rank = Rank(setup=prediction.setup, rules=version_rules(prediction.version), stage=part.stage)
    left = f"planned to be left: {gib(budget.left_bytes(part))}, give or take " + gib(
        budget.left_uncertainty_bytes(part)
    )
    if ended.wanted is not None and ended.left is not None:
        left += f"; asked for {ended.wanted:.2f} GiB with {ended.left:.2f} free"
    yield left
    found = risks(rank, part.activation)
    named = [risk for risk in found if risk.name == ended.during]
    for risk in named or found:
        size = "nobody knows how much" if risk.size_bytes is None else gib(risk.size_bytes)
        where = "it was" if named else "it may have been"
        yield f"{where} {risk.name} ({size}; {risk.source}): {risk.remedy}"
