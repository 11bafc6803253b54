"""vLLM's flags that change the schedule and nothing of the plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..engine_args.arguments import prepare_arguments
from ..engine_args.flags import FlagParser

SWITCHES = ("scheduler-reserve-full-isl", "long-prefill-token-threshold-adaptive")


def scheduler_flags(words: Sequence[str]) -> dict[str, Any]:
    """Those of them that stand in a command line, by vLLM's names; only the given ones.

    Args:
        words: Our own command line, or a pasted one; every other flag is passed over.

    Raises:
        InputError: A value that vLLM refuses.
    """
    import argparse

    parser = FlagParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("--scheduling-policy", choices=("fcfs", "priority"))
    parser.add_argument("--watermark", type=float)
    parser.add_argument("--prefill-schedule-interval", type=int)
    for name in SWITCHES:
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
    given, _ = parser.parse_known_args(prepare_arguments(list(words)))
    return vars(given)
