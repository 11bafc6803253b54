"""``vllm-kv-planner explain``: a real start's log, predicted and actual side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..engine_args.choose_gpu import choose_gpu
from ..errors import InputError, PlannerError
from .output import rendered, say
from .planner_flags import calibration_of, command_parser

if TYPE_CHECKING:
    from ..explain.predict import Given
    from ..logs.start_log import StartLog

MOST_LOGS = 200


def run(arguments: Sequence[str]) -> int:
    """Read, plan again, compare, print; returns the exit code."""
    from ..explain.compare import compare
    from ..explain.explanation import Explanation, Explanations
    from ..explain.predict import predict

    given = command_parser("explain").parse_args(list(arguments))
    filled = gaps(given)
    calibration = calibration_of(given)
    found: list[Explanation] = []
    for log in read_logs(given):
        try:
            found.append(compare(log, predict(log, filled, calibration), ()))
        except PlannerError as refusal:
            found.append(compare(log, None, (f"not predicted: {refusal}",)))
    say(rendered(Explanations(tuple(found)), given.format))
    return 0


def read_logs(given: argparse.Namespace) -> list[StartLog]:
    """The logs of the command line.

    Raises:
        InputError: One of them is no log, or standard input is named twice.
    """
    from ..logs.parse import parse_log

    if len(given.logs) > MOST_LOGS:
        raise InputError(f"more than {MOST_LOGS} logs at once")
    if given.logs.count("-") > 1:
        raise InputError("standard input is named twice")
    return [parse_log(path) for path in given.logs]


def gaps(given: argparse.Namespace) -> Given:
    """What the flags say beside the logs."""
    from ..explain.predict import Given

    return Given(
        gpu=choose_gpu(given.gpu, given.gpu_memory),
        model=given.model,
        version=given.vllm_version,
    )
