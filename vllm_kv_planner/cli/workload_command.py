"""``vllm-kv-planner workload``: how many requests really run together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..engine_args.arguments import prepare_arguments
from ..engine_args.serve_command import split_command
from ..errors import InputError, printable
from .planner_flags import request_of, request_of_command, split_at_dashes
from .scheduler_flags import scheduler_flags
from .workload_flags import make_parser, source_of

if TYPE_CHECKING:
    import argparse

    from ..capacity.workload.result import WorkloadResult
    from ..capacity.workload.source import OpenSource, RequestSource
    from ..plan_types import Plan


def run(arguments: Sequence[str]) -> int:
    """Parse, plan, run the requests, print; returns the exit code."""
    ours, pasted = split_at_dashes(list(arguments))
    given = make_parser().parse_args(prepare_arguments(ours))
    for path in (given.series, given.html):
        check_writable(path)
    if pasted:
        given.model_tags = [given.model_tags] if given.model_tags else None
        request = request_of_command(given, pasted, own=("seed", "tokenizer"))
    else:
        request = request_of(given, given.model_tags or getattr(given, "model", None))
    of_scheduler = scheduler_flags(split_command(pasted) if pasted else ours)
    asked = source_of(given)
    source = asked.open()
    try:
        plan = request.plan()
        if not may_run(plan):
            print_plan(plan, given.format)
            return 1
        from ..capacity.workload.run import run_workload
        from .progress import progress_bar

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
    print(rendered(result, given.format, asked, source))
    return 0


def may_run(plan: Plan) -> bool:
    """Whether the engine starts, or may start where the prediction is a little too high."""
    borderline = bool(plan.notes) and plan.notes[0].startswith("borderline")
    return plan.fits or (borderline and plan.kv_cache.num_gpu_blocks > 1)


def print_plan(plan: Plan, form: str) -> None:
    """The plan of an engine that does not fit, in the format asked for."""
    from .plan_command import rendered as rendered_plan

    print(rendered_plan([plan], form))


def rendered(result: WorkloadResult, form: str, asked: RequestSource, source: OpenSource) -> str:
    """The result in the format asked for."""
    from ..records import replace
    from ..report import workload_report as report

    result = replace(result, notes=(*result.notes, *source.notes()))
    lines = described(source)
    if form == "json":
        from ..plan_types import as_plain

        plain = as_plain(asked)
        assert isinstance(plain, dict)
        return report.to_json(result, plain)
    if form == "csv":
        return report.to_csv(result)
    if form == "markdown":
        return report.to_markdown(result, lines)
    from ..report.terminal import wants_colour

    return report.to_text(
        result, lines, colour=wants_colour(sys.stdout), unicode=knows_bars(sys.stdout.encoding)
    )


def described(source: OpenSource) -> list[str]:
    """What the requests were, a line each."""
    return [f"Requests: {source.lengths}", f"Arrivals: {source.arrivals}"]


def knows_bars(encoding: str | None) -> bool:
    """Whether text in this encoding can hold the chart's characters."""
    try:
        "▁█│".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def check_writable(path: str | None) -> None:
    """Refuse a file that cannot be written before anything runs.

    Raises:
        InputError: Why not.
    """
    import os

    if path is None:
        return
    shown = printable(path[:200])
    if not path or "\0" in path or os.path.isdir(path):
        raise InputError(f"{shown!r} is no file to write to")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise InputError(f"{shown}: its folder is not there, or cannot be written to")


def write_files(given: argparse.Namespace, result: WorkloadResult, source: OpenSource) -> None:
    """The files that were asked for beside the report."""
    if given.series is not None:
        from ..report.workload_report import series_csv

        with open(given.series, "w", encoding="utf-8", newline="") as file:
            file.write(series_csv(result) + "\n")
    if given.html is not None:
        from ..report.workload_html import to_html

        with open(given.html, "w", encoding="utf-8") as file:
            file.write(to_html(result, described(source)))
