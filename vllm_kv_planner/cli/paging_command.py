"""``vllm-kv-planner paging``: what blocks save against contiguous reservations."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine_args.arguments import prepare_arguments
from ..engine_args.flags import FlagParser, add_engine_flags
from ..errors import InputError
from .output import FORMATS, rendered, say
from .planner_flags import (
    add_custom_flags,
    add_planner_flags,
    command_parser,
    request_of,
    request_of_command,
    split_at_dashes,
)

EPILOG = """\
examples:
  vllm-kv-planner paging meta-llama/Llama-2-70b-hf -tp 8
  vllm-kv-planner paging google/gemma-3-27b-it --scenario 100x512@8K --scenario 4x30000@128K
  vllm-kv-planner paging Qwen/Qwen3-8B --gpu L4 --block-size 128 --max-model-len 8K --scenario 9x777

exit codes: 0 answered, 2 the input is wrong
"""


def run(arguments: Sequence[str]) -> int:
    """Parse, count, print; returns the exit code."""
    from ..capacity.paging import CLASSIC, check_one_length, compare_paging, parse_scenario

    ours, pasted = split_at_dashes(list(arguments), make_parser)
    given = make_parser().parse_args(prepare_arguments(ours))
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


def make_parser() -> FlagParser:
    """Our own flags first, then vLLM's."""
    parser = command_parser(
        "paging",
        description="What paging saves against reserving max_model_len for every request.",
        usage="MODEL [--scenario 100x512@8K]... [--gpu NAME] [vLLM engine flags]\n"
        "[--scenario 100x512]... [--gpu NAME] -- vllm serve MODEL [flags]",
        epilog=EPILOG,
    )
    parser.add_argument("model_tags", metavar="MODEL", nargs="*", help="Hub id, directory or file")
    own = parser.add_argument_group("planner")
    add_planner_flags(own)
    own.add_argument(
        "--scenario",
        metavar="NxTOKENS@MAX_MODEL_LEN",
        action="append",
        help="requests, tokens of each, the engine's length (four classic ones); repeat",
    )
    own.add_argument("--format", choices=FORMATS, default="text", help="how to print")
    add_custom_flags(parser)
    add_engine_flags(parser)
    return parser
