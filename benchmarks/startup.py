"""How fast the planner is, as ratios within one run: start-up of the commands, plans per second.

    python benchmarks/startup.py [--runs 15]

The wall time of each command is the median of its runs, taken in turn with ``python -c pass``, so
that a busy machine slows both alike. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = str(ROOT / "examples" / "kv_cache_memory_estimator.py")
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
MEMORY = ["--kv-cache-memory-bytes", "40G"]
PLUGIN = "from vllm_kv_planner.engine_plugin import register; register()"
COMMANDS = {
    "plugin, not asked": ["-c", PLUGIN],
    "example, gpt2": [EXAMPLE, "--model", "gpt2", "--seq-len", "1024"],
    "plan, Llama-3.1-8B": ["-m", "vllm_kv_planner", "plan", LLAMA, *MEMORY],
    "plan, gpt-oss-120b": ["-m", "vllm_kv_planner", "plan", "openai/gpt-oss-120b", *MEMORY],
}
PLANNED = {
    "plain": LLAMA,
    "hybrid, windows": "google/gemma-3-27b-it",
    "hybrid, states": "Qwen/Qwen3-Next-80B-A3B-Thinking",
    "latent": "deepseek-ai/DeepSeek-V3",
}
os.environ["HF_HUB_OFFLINE"] = "1"  # how long the Hub takes to answer, or not to, is not measured
# compiled modules are kept, as for any user; otherwise the caller's setting would decide
ENV = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
HEAVY = ("torch", "transformers", "vllm")


def wall_time(arguments: list[str]) -> float:
    """Seconds one run of the interpreter takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=ROOT, env=ENV)
    return time.perf_counter() - start


def startup(runs: int) -> None:
    """Each command beside an empty interpreter."""
    for name, command in COMMANDS.items():
        empty, ours = [], []
        for _ in range(runs):
            empty.append(wall_time(["-c", "pass"]))
            ours.append(wall_time(command))
        base, full = statistics.median(empty), statistics.median(ours)
        print(f"{name:<22}{full * 1e3:7.1f} ms   {full / base:5.2f} x python -c pass", end="   ")
        print(f"modules: {imported(command)}")


def imported(command: list[str]) -> str:
    """How many modules the command imports, and which heavy ones."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    names = [line.rsplit("|", 1)[-1].strip() for line in run.stderr.splitlines()]
    heavy = sorted({name.split(".")[0] for name in names} & set(HEAVY))
    return f"{len(names) - 1}, heavy: {', '.join(heavy) or 'none'}"


def per_second(call: Callable[[], object], seconds: float = 1.0) -> float:
    """Calls per second on one core, after one to warm up."""
    call()
    calls, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        call()
        calls += 1
    return calls / spent


def throughput() -> None:
    """Plans through the Python API, each with a length of its own."""
    for name, model in PLANNED.items():
        lengths = count(1024)
        speed = per_second(partial(one_plan, model, lengths))
        print(f"{name:<22}{speed:8,.0f} plans a second   {model}")


def one_plan(model: str, lengths: Iterator[int]) -> object:
    """A plan with a length that no plan before it had."""
    from vllm_kv_planner import plan  # only where it is needed: start-up is measured here

    length = 1024 + next(lengths) % 30_000
    return plan(model, gpu="H100", kv_cache_memory_bytes=40 << 30, max_model_len=length)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="Start-up and throughput of the planner.")
    parser.add_argument("--runs", type=int, default=15, help="runs of each command (15)")
    arguments = parser.parse_args()
    startup(arguments.runs)
    throughput()


if __name__ == "__main__":
    main()
