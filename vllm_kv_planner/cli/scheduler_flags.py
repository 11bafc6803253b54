"""vLLM's flags that change the schedule and nothing of the plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..engine_args.arguments import prepare_arguments
from ..engine_args.flags import FlagParser
from ..errors import UnsupportedError

NOT_SIMULATED = {
    "max-num-queued-reqs": "turns requests away before the scheduler sees them",
    "max-num-queued-tokens": "turns requests away before the scheduler sees them",
    "prefix-cache-retention-interval": "keeps blocks behind a window for later hits",
    "scheduler-cls": "is a scheduler of your own",
}
"""Flags that make another schedule, and how."""
SWITCHES = ("scheduler-reserve-full-isl", "long-prefill-token-threshold-adaptive")


def scheduler_flags(words: Sequence[str]) -> dict[str, Any]:
    """Those of them that stand in a command line, by vLLM's names; only the given ones.

    Args:
        words: Our own command line, or a pasted one; every other flag is passed over.

    Raises:
        InputError: A value that vLLM refuses.
        UnsupportedError: A flag whose schedule is not simulated.
    """
    import argparse

    parser = FlagParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("--scheduling-policy", choices=("fcfs", "priority"))
    parser.add_argument("--watermark", type=float)
    parser.add_argument("--prefill-schedule-interval", type=int)
    for name in SWITCHES:
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
    for name in NOT_SIMULATED:
        parser.add_argument(f"--{name}")
    parsed, _ = parser.parse_known_args(prepare_arguments(list(words)))
    given = vars(parsed)
    for name, what in NOT_SIMULATED.items():
        value = given.pop(name.replace("-", "_"), "0")
        if value not in ("0", "None"):
            raise UnsupportedError(f"--{name} {what}, which is not simulated; leave it out")
    return given
