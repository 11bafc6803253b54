#!/usr/bin/env python3
"""Weights, buffers and activation: the rules restated here against vLLM's own code, executed.

    python benchmarks/memory_parity.py --vllm-python PYTHON [--slice N] [--table] [--output FILE]

Every config in ../shared/configs, on four GPUs, at TP 1 and 8, with the defaults of ``vllm serve``
and nothing compiled: vLLM's runner loads and profiles each without a GPU
(``internals/profile_run.py``). Weights are to agree within 0.1 %, the runner's buffers and each
phase of the profile run within 2 %. Each difference is printed by name, and what either side
refuses with its reason; encoders are restated only. ``--table``: ten models of ten families side by
side, in Markdown. With --output the answers are kept, and a second run asks only for new ones.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.parity import SHARED, flags, kept, models  # noqa: E402
from vllm_kv_planner import PlannerError, VLLMPlanner  # noqa: E402
from vllm_kv_planner.memory.activation import activation_peak, runner_buffers  # noqa: E402
from vllm_kv_planner.memory.phase import allocated_bytes  # noqa: E402
from vllm_kv_planner.memory.rank import Rank  # noqa: E402
from vllm_kv_planner.memory.versions import version_rules  # noqa: E402
from vllm_kv_planner.planning.request import PlanRequest, plan_request  # noqa: E402
from vllm_kv_planner.planning.standalone import StandalonePlan  # noqa: E402
from vllm_kv_planner.version import VLLM  # noqa: E402

GPUS = ("H100", "L4", "RTX 4090", "B200")
RANKS = (1, 8)
CLOSE = {"weights": 0.001}
"""How far apart is still the same; other parts: 2 %."""
ENCODER = ("encoder_outputs", "dummy_items")
"""What an encoder leaves for later phases: no part of what is executed."""
TABLE = (
    ("meta-llama/Llama-3.1-8B-Instruct", 1),
    ("Qwen/Qwen3-8B-FP8", 1),
    ("Qwen/Qwen3-30B-A3B", 1),
    ("openai/gpt-oss-20b", 1),
    ("deepseek-ai/DeepSeek-V3", 8),
    ("Qwen/Qwen3-Next-80B-A3B-Thinking", 4),
    ("google/gemma-3-27b-it", 1),
    ("nvidia/Nemotron-H-56B-Base-8K", 8),
    ("ai21labs/AI21-Jamba-1.5-Mini", 8),
    ("TheBloke/Llama-2-7B-GPTQ", 1),
)
"""Dense, fp8, experts, MXFP4, latent attention, gated delta, windows and images, Mamba 2, Mamba 1,
GPTQ."""


def cases(*, table: bool) -> Iterator[dict[str, Any]]:
    """GPU by GPU: each needs a process of its own."""
    files = dict(models(ROOT, families=False))
    if table:
        for name, tp in TABLE:
            yield {"id": f"{name} H100 TP {tp}", "config": files[name], "gpu": "H100", "tp": tp}
        return
    for gpu in GPUS:
        for name, config in files.items():
            for tp in RANKS:
                yield {"id": f"{name} {gpu} TP {tp}", "config": config, "gpu": gpu, "tp": tp}


def asked(case: dict[str, Any]) -> PlanRequest:
    """The engine."""
    return plan_request(
        case["config"],
        gpu=case["gpu"],
        planner="vllm",
        tensor_parallel_size=case["tp"],
        enforce_eager=True,
    )


def executed(case: dict[str, Any], planner: VLLMPlanner) -> dict[str, Any]:
    """What vLLM's code holds, by part, in bytes; what could not be followed, and why."""
    started = time.perf_counter()
    answer = planner.profile(asked(case))
    sizes = {key: answer.get(f"{key}_bytes") for key in ("weights", "buffers")}
    if "load" in answer["refused"]:
        sizes = {}
    if "forward" not in answer["refused"]:
        sizes |= answer.get("phases", {})
    return {
        "id": case["id"],
        "parts": {key: size for key, size in sizes.items() if size is not None},
        "refused": answer["refused"],
        "s": round(time.perf_counter() - started, 1),
    }


def restated(case: dict[str, Any]) -> dict[str, int]:
    """The same by the rules restated here.

    Raises:
        PlannerError: There is no rule.
    """
    mine = StandalonePlan(asked(case))
    rank = Rank(setup=mine.setup, rules=version_rules(VLLM))
    phases = {
        phase.name: sum(
            allocated_bytes(size, split_limited=rank.rules.split_limited)
            for name, size in phase.parts
            if name not in ENCODER
        )
        for phase in activation_peak(rank).phases
    }
    sizes = {"buffers": sum(size for _, size in runner_buffers(rank)), **phases}
    with contextlib.suppress(PlannerError):
        sizes["weights"] = mine.weights.loaded_bytes[0]
    return sizes


def judged(case: dict[str, Any], row: dict[str, Any]) -> dict[str, list[int]]:
    """By part that both know: what is restated and what was executed."""
    ours = restated(case)
    pairs = {part: [ours[part], size] for part, size in row["parts"].items() if ours.get(part)}
    peaks = [
        [sizes[phase] for phase in ("forward", "sampler", "pooler") if phase in sizes]
        for sizes in (ours, row["parts"])
    ]
    if all(peaks):
        pairs["activation"] = [max(peak) for peak in peaks]
    return pairs


def is_close(part: str, pair: list[int]) -> bool:
    """Whether a part is the same."""
    return abs(pair[0] - pair[1]) <= CLOSE.get(part, 0.02) * pair[1]


def gib(pair: list[int]) -> str:
    """Both in GiB, the executed one second."""
    return " / ".join(f"{size / (1 << 30):.3f}" for size in pair)


def show_table(rows: list[tuple[dict[str, Any], dict[str, list[int]]]]) -> None:
    """Side by side."""
    parts = ("weights", "buffers", "forward", "sampler", "activation")
    print("| engine | " + " | ".join(parts) + " |")
    print("| --- |" + " ---: |" * len(parts))
    for row, pairs in rows:
        cells = [gib(pairs[part]) if part in pairs else "not followed" for part in parts]
        print(f"| {row['id']} | " + " | ".join(cells) + " |")


def main() -> int:
    """Run, keep, count."""
    parser = flags("Compare restated and executed memory.", GPUS)
    parser.add_argument("--table", action="store_true", help="ten families, in Markdown")
    given = parser.parse_args()
    if not SHARED.is_dir():
        print("skipped: needs ../shared/configs, which is not part of the repository")
        return 0
    done = kept(given.output)
    close: Counter[str] = Counter()
    both: Counter[str] = Counter()
    table = []
    wanted = [each for each in cases(table=given.table) if given.gpu in (None, each["gpu"])]
    with VLLMPlanner(python=given.vllm_python) as planner:
        for case in wanted[:: given.slice or 1]:
            row = done.get(case["id"])
            try:
                row = row or executed(case, planner)
                pairs = judged(case, row)
            except PlannerError as refusal:
                print(f"{case['id']}: no rule: {refusal}", flush=True)
                continue
            if given.output is not None and case["id"] not in done:
                with given.output.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            table.append((row, pairs))
            both.update(pairs.keys())
            close.update(part for part, pair in pairs.items() if is_close(part, pair))
            far = [f"{p} {gib(pair)}" for p, pair in pairs.items() if not is_close(p, pair)]
            why = [f"{part} not followed: {why}" for part, why in row["refused"].items()]
            if (far or why) and not given.table:
                print(f"{case['id']}: {'; '.join((*far, *why))}", flush=True)
    if given.table:
        show_table(table)
    for part, count in both.most_common():
        share = close[part] / count
        bound = CLOSE.get(part, 0.02)
        print(f"{part:<12}{close[part]:>5} of {count:>5} within {bound:.1%}: {share:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
