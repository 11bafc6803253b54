"""``vllm-kv-planner paging``: what blocks save against contiguous reservations."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from .output import rendered, say
from .planner_flags import parsed, request_of, request_of_command


def run(arguments: Sequence[str]) -> int:
    """Parse, count, print; returns the exit code."""
    from ..capacity.paging import CLASSIC, check_one_length, compare_paging, parse_scenario

    given, pasted = parsed("paging", arguments)
    scenarios = [parse_scenario(text) for text in given.scenario or ()] or CLASSIC
    if pasted:
        request = request_of_command(given, pasted)
        check_one_length(request.args.max_model_len, scenarios)
    else:
        check_one_length(getattr(given, "max_model_len", None), scenarios)
        request = request_of(given, the_model(given.model_tags) or getattr(given, "model", None))
    comparison = compare_paging(request, scenarios)
    say(rendered(comparison, given.format))
    return 0


def the_model(named: list[str]) -> str | None:
    """The one model named; None where none is.

    Raises:
        InputError: Several are.
    """
    if len(named) > 1:
        raise InputError(f"unexpected argument {named[1]!r}: paging takes one MODEL")
    return named[0] if named else None
