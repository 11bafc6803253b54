"""``vllm-kv-planner calibrate``: keep what real starts teach about this machine's devices."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError, PlannerError
from ..files.written import check_apart
from .explain_command import gaps, log_parser, read_logs
from .output import rendered, say
from .planner_flags import usual_path

DESCRIPTION = (
    "Learn from vLLM start-up logs what the planner cannot derive: memory outside "
    "PyTorch, CUDA graphs, free memory at start and the GPU's total, by device and version."
)
EPILOG = """\
Later plans for the same device use the file and name it; plan --no-calibration ignores it.

examples:
  vllm-kv-planner calibrate vllm.log --gpu H100
  vllm-kv-planner calibrate logs/*.log --gpu L40S --calibration ours.json

exit codes: 0 learned, 2 the input is wrong (then nothing is written)
"""


def run(arguments: Sequence[str]) -> int:
    """Read, learn, write, and say what was learned; returns the exit code."""
    import time

    from ..calibration.store import add
    from ..explain.learn import Learned, learn

    given = log_parser("calibrate", DESCRIPTION, EPILOG).parse_args(list(arguments))
    if given.no_calibration:
        raise InputError("--no-calibration: calibrate writes that file; leave the flag out")
    filled = gaps(given)
    today = time.strftime("%Y-%m-%d")
    lessons = []
    logs = read_logs(given)
    for log in logs:
        try:
            lessons.append(learn(log, filled, today=today))
        except PlannerError as error:
            raise InputError(f"{log.where}: {error}") from None
    path = given.calibration or usual_path()
    check_apart({"--calibration": path}, [given.logs, given.model])
    notes = (*add(path, tuple(lessons)).notes, *(note for log in logs for note in log.notes))
    learned = Learned(file=path, lessons=tuple(lessons), notes=notes)
    say(rendered(learned, given.format))
    return 0
