"""How much the planner does in a second: plans, searches of ``fit``, requests of ``workload``.

    python benchmarks/throughput.py [--sizes 10000,100000,1000000] [--only plans,sweep,fit,workload]
        [--format text|json|markdown]

Plans and searches run on one core, each with a length that none before it had; a sweep runs on all
cores. Each workload runs in a process of its own, so that its peak memory is its own; an empty
process, the package imported and the engine planned, stands beside it as 0 requests.
Figures of the machine at hand; no verdict, and nothing here is a test.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.startup import PLANNED, ROOT, per_second

MIB = 1 << 20
SIZES = (10_000, 100_000, 1_000_000)
SEARCHES = 5  # after the first, which reads the catalogue and the model's shapes
SWEEP_ROWS = 4000

ENGINE = {"model": "Qwen/Qwen2.5-7B-Instruct", "gpu": "A10G"}
CLIENTS = 256
PROMPT, OUTPUT = "lognormal:mean=700,sigma=0.8,max=8000", "lognormal:mean=250,sigma=0.6,max=2000"
WORKLOADS = {"own prompts": 0, "shared prefix of 512": 512}
"""Tokens that all prompts begin with."""


@dataclass(frozen=True)
class Figure:
    """One measurement: what was measured, of what, how much, in which unit."""

    measured: str
    of: str
    value: float
    unit: str


def plans() -> Iterator[Figure]:
    """Plans a second through the Python API."""
    for kind, model in PLANNED.items():
        for memory, given in (("given", 40 << 30), ("predicted", None)):
            speed = per_second(partial(one_plan, model, given, count()))
            yield Figure(f"plans, memory {memory}", f"{kind}: {model}", speed, "a second")


def one_plan(model: str, memory: int | None, numbers: Iterator[int]) -> object:
    """A plan with a length that no plan before it had."""
    from vllm_kv_planner import plan

    length = 1024 + next(numbers) % 30_000
    # 8 GPUs hold the largest of the models
    sizes: dict[str, Any] = {"tensor_parallel_size": 8, "kv_cache_memory_bytes": memory}
    return plan(model, gpu="H200", max_model_len=length, planner="standalone", **sizes)


def sweeps() -> Iterator[Figure]:
    """Rows a second on all cores, starting the processes included."""
    from vllm_kv_planner.capacity.sweep.pool import cores
    from vllm_kv_planner.capacity.sweep.run import sweep

    grid = {"max_model_len": list(range(1024, 1024 + SWEEP_ROWS))}
    start = time.perf_counter()
    done = sweep(PLANNED["plain"], gpus="H100", grid=grid, planner="standalone")
    seconds = time.perf_counter() - start
    assert done.errors == 0, done.first_error
    what = f"{done.total:,} rows of {PLANNED['plain']}, {cores()} cores"
    yield Figure("sweep, memory predicted", what, done.total / seconds, "rows a second")


def fits() -> Iterator[Figure]:
    """Seconds of one search over the whole catalogue of GPUs."""
    from vllm_kv_planner.capacity.fit.fit import fit

    for kind, model in PLANNED.items():
        seconds = []
        for number in range(1 + SEARCHES):
            start = time.perf_counter()
            fit(model, context=8192 + number, concurrency=4, planner="standalone")
            seconds.append(time.perf_counter() - start)
        what = f"{kind}: {model}"
        yield Figure("fit over the catalogue, first", what, seconds[0], "s")
        yield Figure("fit over the catalogue, median", what, statistics.median(seconds[1:]), "s")


def workloads(sizes: Sequence[int]) -> Iterator[Figure]:
    """Requests a second, and the peak memory of the process that ran them."""
    empty = run_apart(0, 0)
    yield Figure("workload, peak memory", "0 requests", empty["peak_bytes"] / MIB, "MiB")
    for size in sizes:
        for name, prefix in WORKLOADS.items():
            done = run_apart(size, prefix)
            what = f"{size:,} requests, {name}"
            yield Figure("workload", what, size / done["seconds"], "requests a second")
            yield Figure("workload, peak memory", what, done["peak_bytes"] / MIB, "MiB")


def run_apart(size: int, prefix: int) -> dict[str, float]:
    """What ``one_workload`` says in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--one", str(size), str(prefix)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def one_workload(size: int, prefix: int) -> dict[str, float]:
    """Run ``size`` requests in a closed loop; seconds, and this process's peak memory."""
    from vllm_kv_planner.capacity.workload import run_workload
    from vllm_kv_planner.planner import plan_of
    from vllm_kv_planner.planning.request import plan_request
    from vllm_kv_planner.workload.lengths import parse_lengths
    from vllm_kv_planner.workload.requests import (
        SharedPrefix,
        generated_requests,
        with_shared_prefix,
    )

    request = plan_request(ENGINE["model"], gpu=ENGINE["gpu"], max_model_len=16_384)
    plan = plan_of(request)
    start = time.perf_counter()
    if size:
        requests = generated_requests(parse_lengths(PROMPT), parse_lengths(OUTPUT), size)
        trace = with_shared_prefix(requests, SharedPrefix(tokens=prefix))
        result = run_workload(request, trace, concurrency=CLIENTS, plan=plan)
        assert result.requests == size
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_bytes": peak_memory()}


def peak_memory() -> int:
    """Bytes of memory that this process held at most.

    Not ``ru_maxrss``: that begins with what the process held before ``exec``, its parent's.
    """
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def printed(figures: Iterator[Figure], form: str) -> str:
    """The figures in the format asked for."""
    from vllm_kv_planner.report.document import Column, Document, Section, table_of
    from vllm_kv_planner.report.render import to_markdown, to_text

    found = list(figures)
    if form == "json":
        return json.dumps([asdict(figure) for figure in found], indent=2)
    value = Column("value", form="count", value=lambda each: rounded(each.value))
    table = table_of(found, (Column("measured"), Column("of"), value, Column("unit")))
    document = Document(sections=(Section(body=(table,)),))
    return to_markdown(document) if form == "markdown" else to_text(document)


def rounded(value: float) -> float:
    """Large figures without decimals, which would only pretend."""
    return round(value) if value >= 100 else round(value, 2)


def main() -> None:
    """Measure what was asked for, and print it."""
    parts: dict[str, Callable[[], Iterator[Figure]]] = {
        "plans": plans,
        "sweep": sweeps,
        "fit": fits,
        "workload": lambda: workloads(given.sizes),
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=sizes_of, default=SIZES, help="requests, comma separated")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=list(parts), help=", ".join(parts)
    )
    parser.add_argument("--format", choices=("text", "json", "markdown"), default="text")
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    given: Any = parser.parse_args()
    if given.one:
        print(json.dumps(one_workload(*given.one)))
        return
    unknown = [name for name in given.only if name not in parts]
    if unknown:
        parser.error(f"--only {unknown[0]}: one of {', '.join(parts)}")
    print(printed((each for name in given.only for each in parts[name]()), given.format))


def sizes_of(text: str) -> list[int]:
    """``10000,100000``; at least one request each."""
    sizes = [int(each) for each in text.replace("_", "").split(",")]
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError("at least 1 request")
    return sizes


if __name__ == "__main__":
    main()
