"""The reason of a part's difference, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from ..records import replace
from ..units import gib
from ..version import VLLM
from .measured import Part

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
