"""Record what vLLM's own scheduler does with the workloads of the tests.

    python benchmarks/record_workload.py OUT [NAME ...] [--python VLLM_PYTHON]

Writes ``OUT/NAME.jsonl`` (asynchronous scheduling, vLLM's default) and ``OUT/NAME_sync.jsonl``.
Needs vLLM and the configs of ``../shared``. ``tests/data/workload_*.jsonl`` are made by it with
``--small``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.shared import config_files
from tests.workload_cases import CASES, Case
from tests.workload_truth import write_truth
from vllm_kv_planner.capacity.request import plan_request
from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.vllm_adapter.client import VLLMPlanner
from vllm_kv_planner.vllm_adapter.workload import VLLMRun


def main() -> None:
    """Run every case, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--python", help="the interpreter that has vLLM")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with VLLMPlanner(python=args.python) as planner:
        for case in CASES:
            if args.names and not any(case.name.startswith(name) for name in args.names):
                continue
            for overlap in (True, False):
                name = case.name if overlap else f"{case.name}_sync"
                try:
                    record(case, overlap, args.out / f"{name}.jsonl", planner)
                except PlannerError as error:
                    print(f"{name}: {error}")


def record(case: Case, overlap: bool, path: Path, planner: VLLMPlanner) -> None:
    """Run one case and write its file."""
    started = time.monotonic()
    request = plan_request(
        config_files()[case.model], gpu="H100", async_scheduling=overlap, **case.args
    )
    requests = case.trace()
    with VLLMRun(
        request,
        requests,
        concurrency=case.concurrency,
        step_time=case.step_time,
        scheduler_flags=case.flags,
        planner=planner,
    ) as run:
        head = {
            "vllm_version": run.settings["vllm_version"],
            "command": f"python benchmarks/record_workload.py OUT {case.name}",
            "model": case.model,
            "gpu": "H100",
            "args": {**case.args, "async_scheduling": overlap},
            "flags": case.flags,
            "concurrency": case.concurrency,
            "step_time": case.step_time,
            "settings": run.settings,
        }
        steps = list(run.steps())
    write_truth(path, head, requests, steps)
    preemptions = sum(len(step.preempted) for step in steps)
    cached = sum(sum(step.cached_tokens) for step in steps)
    print(
        f"{path.name}: {len(requests)} requests, {len(steps)} steps, {preemptions} preemptions, "
        f"{cached} tokens cached, {time.monotonic() - started:.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
