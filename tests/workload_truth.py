"""Files of what vLLM's scheduler did: one line of settings, one of requests, one a step.

The first line says by which vLLM and how it was made; ``benchmarks/record_workload.py`` makes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from vllm_kv_planner.workload.types import Segment, StepRecord, TraceRequest


class Truth(NamedTuple):
    """One file."""

    head: dict[str, Any]
    requests: list[TraceRequest]
    steps: list[StepRecord]


def step_row(step: StepRecord) -> list[Any]:
    """A step as a line of the file."""
    return [
        step.step,
        {str(number): tokens for number, tokens in step.scheduled.items()},
        list(step.admitted),
        list(step.preempted),
        list(step.finished),
        list(step.cached_tokens),
        step.running,
        step.waiting,
        step.used_blocks,
    ]


def write_truth(
    path: Path, head: dict[str, Any], requests: Iterable[TraceRequest], steps: Iterable[StepRecord]
) -> None:
    """The file."""
    with path.open("w", encoding="utf-8") as file:
        rows: list[Any] = [head, {"requests": list(requests)}]
        for row in (*rows, *(step_row(step) for step in steps)):
            file.write(json.dumps(row, separators=(",", ":")) + "\n")


def read_truth(path: Path) -> Truth:
    """What ``write_truth`` wrote."""
    with path.open(encoding="utf-8") as file:
        head, requests, *rows = (json.loads(line) for line in file)
    return Truth(
        head,
        [
            TraceRequest(arrival, prompt, output, tuple(Segment(*each) for each in prefix))
            for arrival, prompt, output, prefix in requests["requests"]
        ],
        [
            StepRecord(
                step=row[0],
                scheduled={int(number): tokens for number, tokens in row[1].items()},
                admitted=tuple(row[2]),
                preempted=tuple(row[3]),
                finished=tuple(row[4]),
                cached_tokens=tuple(row[5]),
                running=row[6],
                waiting=row[7],
                used_blocks=row[8],
            )
            for row in rows
        ],
    )


def check_same(ours: Iterable[StepRecord], vllms: Iterable[StepRecord]) -> int:
    """Every step is the same, and there are as many; how many there are."""
    count = 0
    for mine, theirs in zip_longest(ours, vllms):
        assert mine == theirs
        count += 1
    return count
