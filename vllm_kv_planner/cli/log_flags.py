"""Flags that ``explain``, ``calibrate`` and ``plan`` share: gaps of a log, the local file."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from ..engine_args.choose_gpu import choose_gpu
from ..engine_args.flags import FlagParser
from ..errors import InputError

if TYPE_CHECKING:
    from ..calibration.calibration import Calibration
    from ..explain.predict import Given
    from ..logs.start_log import StartLog

MOST_LOGS = 200


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


def add_calibration_flags(parser: argparse._ActionsContainer, *, ignorable: bool = True) -> None:
    """Where the lessons are."""
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="lessons of calibrate (default: the user's own file)",
    )
    if ignorable:
        parser.add_argument("--no-calibration", action="store_true", help="use no lessons")


def calibration_of(given: argparse.Namespace) -> Calibration | None:
    """The lessons to plan with; None where there are none.

    Raises:
        InputError: The file named is not there, or is not usable.
    """
    if given.no_calibration:
        if given.calibration is not None:
            raise InputError("--calibration and --no-calibration: one of them")
        return None
    path = given.calibration or usual_path()
    if given.calibration is None and not os.path.exists(path):
        return None
    from ..calibration.store import load

    return load(path)


def usual_path() -> str:
    """``$XDG_CONFIG_HOME/vllm-kv-planner/calibration.json``, below ~/.config where not set."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "vllm-kv-planner", "calibration.json")


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
