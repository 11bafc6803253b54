"""``vllm-kv-planner workload``: how many requests really run together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..engine_args.arguments import prepare_arguments
from ..engine_args.flags import FlagParser
from ..engine_args.serve_command import server_words
from ..errors import InputError, UnsupportedError
from .output import rendered, say
from .planner_flags import command_parser, request_of, request_of_command, split_at_dashes

if TYPE_CHECKING:
    import argparse

    from ..planning.types import Plan
    from ..workload.result import WorkloadReport, WorkloadResult
    from ..workload.source import OpenSource, RequestSource


def run_workload(arguments: Sequence[str]) -> int:
    """Parse, plan, run the requests, print; returns the exit code."""
    from ..planner import plan_of

    ours, pasted = split_at_dashes(list(arguments), "workload")
    given = command_parser("workload").parse_args(prepare_arguments(ours))
    check_files(given, pasted)
    if pasted:
        given.model_tags = [given.model_tags] if given.model_tags else None
        request = request_of_command(given, pasted, own=("seed", "tokenizer"))
    else:
        request = request_of(given, given.model_tags or getattr(given, "model", None))
    of_scheduler = scheduler_flags(server_words(pasted) if pasted else ours)
    asked = source_of(given)
    source = asked.open()
    try:
        plan = plan_of(request)
        if not may_run(plan):
            from ..planning.document import Plans

            say(rendered(Plans((plan,)), given.format))
            return 1
        from ..capacity.workload import run_workload
        from .output import progress_bar

        with progress_bar(source.total, "requests", wanted=not given.no_progress) as progress:
            result = run_workload(
                request,
                source.requests,
                concurrency=given.concurrency,
                step_time=given.step_time,
                progress=progress,
                scheduler="vllm" if plan.planner.name == "vllm" else "standalone",
                scheduler_flags=of_scheduler,
                plan=plan,
            )
    finally:
        source.close()
    if not result.requests:
        raise InputError("; ".join([f"{given.trace}: no requests in it", *source.notes()]))
    write_files(given, result, source)
    say(rendered(report_of(result, asked, source), given.format))
    return 0 if result.requests > result.refused else 1


def may_run(plan: Plan) -> bool:
    """Whether the engine starts, or may start where the prediction is a little too high."""
    blocks = plan.kv_cache.num_gpu_blocks
    return plan.fits or (plan.verdict == "borderline" and blocks is not None and blocks > 1)


def report_of(result: WorkloadResult, asked: RequestSource, source: OpenSource) -> WorkloadReport:
    """The result, with what the requests were and what there is to say of them."""
    from ..records import as_plain, replace
    from ..workload.result import WorkloadReport

    plain = as_plain(asked)
    assert isinstance(plain, dict)
    return WorkloadReport(
        result=replace(result, notes=(*result.notes, *source.notes())),
        asked=plain,
        requests=described(source),
    )


def described(source: OpenSource) -> tuple[str, ...]:
    """What the requests were, a line each."""
    return f"Requests: {source.lengths}", f"Arrivals: {source.arrivals}"


def check_files(given: argparse.Namespace, pasted: Sequence[str]) -> None:
    """Refuse files that cannot be written, or are read, before anything runs.

    Raises:
        InputError: Why not.
    """
    from ..files.written import check_apart, check_writable

    outputs = {"--series": given.series, "--html": given.html}
    for path in outputs.values():
        if path is not None:
            check_writable(path)
    if any(path is not None for path in outputs.values()):
        read = {name: value for name, value in vars(given).items() if f"--{name}" not in outputs}
        check_apart(outputs, [read, pasted])


def write_files(given: argparse.Namespace, result: WorkloadResult, source: OpenSource) -> None:
    """The files that were asked for beside the report."""
    from ..files.written import whole_file

    if given.series is not None:
        from ..report.render import to_csv

        with whole_file(given.series) as file:
            file.write(to_csv(result.series_table()) + "\n")
    if given.html is not None:
        from ..workload.result import to_html

        with whole_file(given.html) as file:
            file.write(to_html(result, described(source)))


def source_of(given: argparse.Namespace) -> RequestSource:
    """The requests that the flags ask for; nothing is opened yet."""
    from ..workload.source import RequestSource

    names = RequestSource.__annotations__.keys() - {"trace_tokenizer"}
    flags = {name: getattr(given, name) for name in names}
    return RequestSource(trace_tokenizer=given.tokenizer, **flags)


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
