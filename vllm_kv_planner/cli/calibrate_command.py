"""``vllm-kv-planner calibrate``: keep what real starts teach about this machine's devices."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError, PlannerError
from ..files.written import check_apart
from .explain_command import gaps, read_logs
from .output import rendered, say
from .planner_flags import command_parser, usual_path


def run(arguments: Sequence[str]) -> int:
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
