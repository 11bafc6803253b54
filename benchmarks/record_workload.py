"""Record what vLLM's own scheduler does with the workloads of the tests.

    python benchmarks/record_workload.py OUT [NAME ...] [--small] [--python VLLM_PYTHON]

Writes ``OUT/NAME.jsonl`` (asynchronous scheduling, vLLM's default) and ``OUT/NAME_sync.jsonl``;
needs vLLM and the configs of ``../shared``. ``--small`` are the files of ``tests/data``:

    python benchmarks/record_workload.py tests/data --small
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.workload_cases import CASES, Case, case_request
from tests.workload_small_cases import CONFIGS, SMALL_CASES
from tests.workload_truth import write_truth
from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.vllm_adapter.client import VLLMPlanner
from vllm_kv_planner.vllm_adapter.workload import VLLMRun


def main() -> None:
    """Run every case, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help="what names begin with")
    parser.add_argument("--small", action="store_true", help="the files of tests/data")
    parser.add_argument("--python", help="the interpreter that has vLLM")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with VLLMPlanner(python=args.python) as planner:
        for case in SMALL_CASES if args.small else both_ways(CASES):
            if args.names and not case.name.startswith(tuple(args.names)):
                continue
            path = args.out / f"{'workload_' if args.small else ''}{case.name}.jsonl"
            try:
                print(f"{path.name}: {record(case, path, planner, small=args.small)}", flush=True)
            except PlannerError as error:
                print(f"{path.name}: {error}", flush=True)


def both_ways(cases: tuple[Case, ...]) -> list[Case]:
    """With asynchronous scheduling, and without."""
    return [
        case._replace(
            name=case.name if overlap else f"{case.name}_sync",
            args={**case.args, "async_scheduling": overlap},
        )
        for case in cases
        for overlap in (True, False)
    ]


def record(case: Case, path: Path, planner: VLLMPlanner, *, small: bool) -> str:
    """Run one case and write its file; says what happened."""
    started = time.monotonic()
    requests = case.trace()
    with (
        tempfile.TemporaryDirectory() as folder,
        VLLMRun(
            case_request(case, CONFIGS.get(case.model), Path(folder)),
            requests,
            concurrency=case.concurrency,
            step_time=case.step_time,
            scheduler_flags=case.flags,
            planner=planner,
        ) as run,
    ):
        head: dict[str, Any] = {
            "vllm_version": run.settings["vllm_version"],
            "command": "python benchmarks/record_workload.py "
            + ("tests/data --small" if small else f"OUT {case.name}"),
            "model": case.model,
            "gpu": "H100",
            "args": case.args,
            "flags": case.flags,
            "concurrency": case.concurrency,
            "step_time": case.step_time,
            "settings": run.settings,
        }
        steps = list(run.steps())
    write_truth(path, head, requests, steps)
    preemptions = sum(len(step.preempted) for step in steps)
    cached = sum(sum(step.cached_tokens) for step in steps)
    return (
        f"{len(requests)} requests, {len(steps)} steps, {preemptions} preemptions, "
        f"{cached} tokens cached, {time.monotonic() - started:.1f} s"
    )


if __name__ == "__main__":
    main()
