"""``vllm-kv-planner explain``: a real start's log, predicted and actual side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..engine_args.choose_gpu import choose_gpu
from ..engine_args.flags import FlagParser
from ..errors import InputError, PlannerError
from .output import rendered, say
from .planner_flags import add_calibration_flags, calibration_of

if TYPE_CHECKING:
    from ..explain.predict import Given
    from ..logs.start_log import StartLog

MOST_LOGS = 200
DESCRIPTION = (
    "What a vLLM start-up log says of memory, beside what would have been "
    "predicted, part by part, with the reason of each difference."
)
EPILOG = """\
examples:
  vllm-kv-planner explain vllm.log --gpu H100
  vllm serve gpt2 2>&1 | tee vllm.log; vllm-kv-planner explain vllm.log --gpu L4 --format json
  kubectl logs vllm-0 | vllm-kv-planner explain - --gpu H200 --model Qwen/Qwen3-32B

exit codes: 0 explained, 2 the input is wrong
"""


def run(arguments: Sequence[str]) -> int:
    """Read, plan again, compare, print; returns the exit code."""
    from ..explain.compare import compare
    from ..explain.explanation import Explanation, Explanations
    from ..explain.predict import predict

    given = log_parser("explain", DESCRIPTION, EPILOG).parse_args(list(arguments))
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


def log_parser(command: str, description: str, epilog: str) -> FlagParser:
    """The flags of a command that reads logs: the logs, what fills their gaps, the format."""
    parser = FlagParser(
        prog=f"vllm-kv-planner {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("logs", metavar="LOG", nargs="+", help="start-up log; - is standard input")
    parser.add_argument("--gpu", metavar="NAME", help="the GPU, where the log does not name it")
    parser.add_argument("--gpu-memory", metavar="SIZE", help="its memory, such as 80GiB")
    parser.add_argument("--model", metavar="ID", help="Hub id, directory or config.json")
    parser.add_argument("--vllm-version", metavar="V", help="where the log does not state it")
    add_calibration_flags(parser)
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to print")
    return parser


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
