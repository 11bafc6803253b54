"""``vllm-kv-planner plan``: one engine, planned and printed."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine_args.arguments import prepare_arguments
from ..engine_args.flags import FlagParser, add_engine_flags
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
  vllm-kv-planner plan gpt2 --kv-cache-memory-bytes 1G
  vllm-kv-planner plan Qwen/Qwen3-32B --gpu H200 -tp 2 --kv-cache-memory-bytes 100G --format json
  vllm-kv-planner plan --custom --layers 80 --kv-heads 8 --head-dim 128 --kv-cache-memory-bytes 40G
  vllm-kv-planner plan --gpu L4 -- vllm serve google/gemma-2-9b-it --kv-cache-memory-bytes 4G

exit codes: 0 it fits, 1 it does not fit or not surely, 2 the input is wrong
"""


def run(arguments: Sequence[str]) -> int:
    """Parse, plan, print; returns the exit code."""
    from ..api import plan
    from ..planning.document import Plans

    ours, pasted = split_at_dashes(list(arguments), make_parser)
    given = make_parser().parse_args(prepare_arguments(ours))
    if pasted:
        requests = [request_of_command(given, pasted)]
    else:
        named = given.model_tags or [getattr(given, "model", None)]
        requests = [request_of(given, model) for model in named]
    plans = tuple(map(plan, requests))
    say(rendered(Plans(plans), given.format))
    return 0 if all(plan.fits for plan in plans) else 1


def make_parser() -> FlagParser:
    """Our own flags first, then vLLM's."""
    parser = command_parser(
        "plan",
        description="KV cache memory, blocks and concurrency of one vLLM engine.",
        usage="MODEL... [--gpu NAME] [vLLM engine flags]\n[--gpu NAME] -- vllm serve MODEL [flags]",
        epilog=EPILOG,
    )
    parser.add_argument(
        "model_tags", metavar="MODEL", nargs="*", help="Hub id, directory or file; or several"
    )
    own = parser.add_argument_group("planner")
    add_planner_flags(own)
    own.add_argument("--format", choices=FORMATS, default="text", help="how to print the plan")
    add_custom_flags(parser)
    add_engine_flags(parser)
    return parser
