"""The flags of ``workload``: which requests come, when, and what to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine_args.flags import FlagParser, add_engine_flags
from .planner_flags import add_custom_flags, add_planner_flags, command_parser

if TYPE_CHECKING:
    import argparse

    from ..workload.source import RequestSource

EPILOG = """\
lengths: 1000, 500-1500, normal:mean=1000,std=200, lognormal:mean=1000,sigma=0.8 (or median=,
std=), exponential:mean=1000, choice:512@0.7,4096@0.3; min= and max= cut the curves

examples:
  vllm-kv-planner workload Qwen/Qwen2.5-7B-Instruct --gpu A10G --max-model-len 8192 \\
      --prompt-tokens 800 --output-tokens 200 --requests 1000
  vllm-kv-planner workload gpt2 --gpu L4 --prompt-tokens 100-500 --output-tokens 100 --rate 0.5
  vllm-kv-planner workload gpt2 --gpu L4 --trace BurstGPT_1.csv --step-time 0.02 --requests 10000
  vllm-kv-planner workload --gpu L4 --trace sharegpt.json --concurrency 64 -- vllm serve gpt2

exit codes: 0 requests ran, 1 the engine does not fit (its plan is printed) or none of them could
run, 2 the input is wrong
"""

FORMATS = ("text", "json", "markdown", "csv")


def make_parser() -> FlagParser:
    """Our own flags first, then vLLM's, without the two that mean something of the workload."""
    parser = command_parser(
        "workload",
        description="How many of your requests really run together, step by step.",
        usage=(
            "MODEL --prompt-tokens DIST --output-tokens DIST [flags] [vLLM engine flags]\n"
            "MODEL --trace FILE [flags] [vLLM engine flags]\n"
            "[flags] -- vllm serve MODEL [flags]"
        ),
        epilog=EPILOG,
    )
    parser.add_argument("model_tags", metavar="MODEL", nargs="?", help="Hub id, directory or file")
    _add_request_flags(parser)
    _add_arrival_flags(parser)
    own = parser.add_argument_group("planner")
    add_planner_flags(own)
    own.add_argument("--format", choices=FORMATS, default="text", help="how to print")
    own.add_argument("--series", metavar="FILE", help="write block use over time to a CSV file")
    own.add_argument("--html", metavar="FILE", help="write a page with a chart of block use")
    own.add_argument("--no-progress", action="store_true", help="no progress bar on a terminal")
    add_custom_flags(parser)
    add_engine_flags(parser, omit=("--seed", "--tokenizer"))
    return parser


def _add_request_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("requests")
    group.add_argument("--prompt-tokens", metavar="DIST", help="lengths of prompts")
    group.add_argument("--output-tokens", metavar="DIST", help="lengths of answers")
    group.add_argument(
        "--requests", "--limit", type=int, metavar="N", help="how many (1000, or all of a trace)"
    )
    group.add_argument(
        "--shared-prefix",
        type=int,
        default=0,
        metavar="N",
        help="tokens before every prompt, alike",
    )
    group.add_argument("--prefixes", type=int, metavar="K", help="so many different ones (1)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn (0)")
    group.add_argument("--trace", metavar="FILE", help="real requests; - is standard input")
    group.add_argument(
        "--trace-format",
        metavar="NAME",
        help="sharegpt, burstgpt, azure, bailian, mooncake or columns; told by the columns",
    )
    group.add_argument("--trace-model", metavar="NAME", help="only rows whose Model is this")
    group.add_argument("--tokenizer", metavar="ID", help="counts the tokens of conversations")
    group.add_argument(
        "--all-lengths",
        action="store_true",
        help="conversations that vLLM's benchmark leaves out, too",
    )


def _add_arrival_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("arrivals", "all at once where nothing is said")
    group.add_argument(
        "--rate", type=float, metavar="R", help="requests a step; a second with --step-time"
    )
    group.add_argument(
        "--arrivals", metavar="HOW", help="poisson (default with --rate), constant, burst:N or all"
    )
    group.add_argument(
        "--burstiness", type=float, metavar="X", help="below 1 in clusters, above 1 steadier"
    )
    group.add_argument(
        "--concurrency", type=int, metavar="N", help="or clients that wait for their answers"
    )
    group.add_argument("--scale", type=float, metavar="X", help="a trace's times X times as fast")
    group.add_argument("--step-time", type=float, metavar="S", help="seconds of an engine step")


def source_of(given: argparse.Namespace) -> RequestSource:
    """The requests that the flags ask for; nothing is opened yet."""
    from ..workload.source import RequestSource

    return RequestSource(
        prompt_tokens=given.prompt_tokens,
        output_tokens=given.output_tokens,
        trace=given.trace,
        trace_format=given.trace_format,
        trace_model=given.trace_model,
        trace_tokenizer=given.tokenizer,
        all_lengths=given.all_lengths,
        requests=given.requests,
        rate=given.rate,
        arrivals=given.arrivals,
        burstiness=given.burstiness,
        concurrency=given.concurrency,
        scale=given.scale,
        step_time=given.step_time,
        shared_prefix=given.shared_prefix,
        prefixes=given.prefixes,
        seed=given.seed,
    )
