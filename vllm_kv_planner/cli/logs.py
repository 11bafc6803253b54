"""``explain`` and ``calibrate``: what the logs of real starts say, and what they teach."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InputError, PlannerError
from ..files.written import check_apart
from ..gpu.detect import choose_gpu
from .output import rendered, say
from .planner_flags import calibration_of, command_parser, usual_path

if TYPE_CHECKING:
    from ..explain.predict import Given
    from ..logs.start_log import StartLog

MOST_LOGS = 200


def run_explain(arguments: Sequence[str]) -> int:
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


def run_calibrate(arguments: Sequence[str]) -> int:
    """Read, learn, write, and say what was learned; returns the exit code."""
    import time

    from ..calibration.store import add
    from ..explain.learn import Learned, learn

    given = command_parser("calibrate").parse_args(list(arguments))
    if given.no_calibration:
        raise InputError("--no-calibration: calibrate writes that file; leave the flag out")
    filled = gaps(given)
    today = time.strftime("%Y-%m-%d")
    records = []
    logs = read_logs(given)
    for log in logs:
        try:
            records.append(learn(log, filled, today=today))
        except PlannerError as error:
            raise InputError(f"{log.where}: {error}") from None
    path = given.calibration or usual_path()
    check_apart({"--calibration": path}, [given.logs, given.model])
    notes = (*add(path, tuple(records)).notes, *(note for log in logs for note in log.notes))
    learned = Learned(file=path, records=tuple(records), notes=notes)
    say(rendered(learned, given.format))
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
