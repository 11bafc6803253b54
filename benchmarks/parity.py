#!/usr/bin/env python3
"""Both planners over every published config: where they agree, where not, who refuses.

python benchmarks/parity.py --vllm-python PYTHON [--slice N] [--output FILE]

Every config in ../shared/configs, on three GPUs, at TP 1 and 8, with the KV cache as the
checkpoint says and in fp8, for a fixed KV memory: layer groups, block size, bytes per block,
blocks, tokens and concurrency must be the same. "No rule" is the stand-alone planner's honest
refusal; "stand-alone refuses" is one of what vLLM accepts, and counts as a disagreement. With
--output every case is kept as it is done, and a second run goes on where the first ended. Exit code
1 where any case disagrees.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import vllm_kv_planner
from vllm_kv_planner import Plan, PlannerError, UnsupportedError, VLLMPlanner

SHARED = Path(__file__).resolve().parents[2] / "shared"
GPUS = ("H100", "L4", "B200")
WAYS = ((1, "auto"), (1, "fp8"), (8, "auto"), (8, "fp8"))
MEMORY = 40 << 30
LENGTH = 8192


def cases() -> Iterator[dict[str, Any]]:
    """GPU by GPU: each needs a process of its own."""
    with (SHARED / "configs" / "INDEX.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for gpu in GPUS:
        for row in rows:
            for tp, kv_cache_dtype in WAYS:
                yield {
                    "id": f"{row['hf_id']} {gpu} TP {tp} {kv_cache_dtype}",
                    "config": str(SHARED / "configs" / row["file"]),
                    "gpu": gpu,
                    "arguments": {
                        "tensor_parallel_size": tp,
                        "kv_cache_dtype": kv_cache_dtype,
                        "kv_cache_memory_bytes": MEMORY,
                    },
                }


def compared(plan: Plan) -> dict[str, Any]:
    """What must be the same; groups in any order."""
    cache = plan.kv_cache
    return {
        "groups": sorted(
            [g.kind, g.num_layers, g.block_size, g.page_size_bytes, g.blocks_per_request]
            for g in cache.groups
        ),
        "block_size": plan.engine.block_size,
        "bytes_per_token": cache.bytes_per_token,
        "bytes_per_block": cache.bytes_per_block,
        "num_gpu_blocks": cache.num_gpu_blocks,
        "kv_cache_size_tokens": cache.kv_cache_size_tokens,
        "max_concurrency": cache.max_concurrency,
        "max_model_len_that_fits": cache.max_model_len_that_fits,
        # vLLM's own check; whether the card holds the memory that is given is no question to vLLM
        "fits": (cache.max_model_len_that_fits or 0) >= plan.engine.max_model_len,
    }


def run(case: dict[str, Any], planner: VLLMPlanner) -> dict[str, Any]:
    """One case: ``same``, ``different``, or which side refuses, with the reason."""
    arguments = with_length(case)
    refusals: dict[str, str] = {}
    unknown = False
    answers: dict[str, dict[str, Any]] = {}
    try:
        plan = vllm_kv_planner.plan(
            case["config"], gpu=case["gpu"], planner="standalone", **arguments
        )
        answers["standalone"] = compared(plan)
    except PlannerError as error:
        refusals["standalone"] = str(error)
        unknown = isinstance(error, UnsupportedError)
    started = time.perf_counter()
    try:
        answers["vllm"] = compared(planner.plan(case["config"], gpu=case["gpu"], **arguments))
    except PlannerError as error:
        refusals["vllm"] = str(error)
    seconds = round(time.perf_counter() - started, 2)
    if len(answers) == 2:
        same = answers["standalone"] == answers["vllm"]
        differences = {
            key: [value, answers["vllm"][key]]
            for key, value in answers["standalone"].items()
            if value != answers["vllm"][key]
        }
        verdict = "same" if same else "different"
        return {"id": case["id"], "verdict": verdict, "differences": differences, "s": seconds}
    if len(refusals) == 2:
        verdict = "both refuse"
    elif "vllm" in refusals:
        verdict = "vLLM refuses"
    else:
        verdict = "no rule" if unknown else "stand-alone refuses"
    return {"id": case["id"], "verdict": verdict, "refusals": refusals, "s": seconds}


def with_length(case: dict[str, Any]) -> dict[str, Any]:
    """8,192 tokens, or the model's own length where that is less or more cannot be told."""
    arguments = dict(case["arguments"])
    try:
        plan = vllm_kv_planner.plan(case["config"], planner="standalone", **arguments)
    except PlannerError:
        return arguments
    if (plan.kv_cache.max_model_len_that_fits or 0) > LENGTH:
        arguments["max_model_len"] = LENGTH
    return arguments


def kept(output: Path | None) -> dict[str, dict[str, Any]]:
    """What an earlier run has done."""
    if output is None or not output.exists():
        return {}
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    return {row["id"]: row for row in rows}


def main() -> int:
    """Run, keep, count."""
    parser = argparse.ArgumentParser(description="Compare both planners.")
    parser.add_argument("--vllm-python", default=os.environ.get("KV_PLANNER_PYTHON"))
    parser.add_argument("--slice", type=int, metavar="N", help="every Nth case only")
    parser.add_argument("--output", type=Path, help="JSON lines; read first, then added to")
    given = parser.parse_args()
    if not SHARED.is_dir():
        print("skipped: needs ../shared/configs, which is not part of the repository")
        return 0
    done = kept(given.output)
    wanted = list(cases())[:: given.slice or 1]
    version = ""
    with VLLMPlanner(python=given.vllm_python) as planner:
        for case in wanted:
            if case["id"] in done:
                continue
            row = run(case, planner)
            done[case["id"]] = row
            version = str(planner.child(case["gpu"])[0].ready["vllm_version"])
            if given.output is not None:
                with given.output.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            if row["verdict"] in ("different", "stand-alone refuses", "vLLM refuses"):
                print(json.dumps(row), flush=True)
    rows = [done[case["id"]] for case in wanted]
    counts = Counter(row["verdict"] for row in rows)
    print(f"vLLM {version or '(nothing new)'}, {date.today()}: {len(rows)} cases")
    for verdict, count in counts.most_common():
        print(f"  {verdict:<20}{count:>6}")
    answered = counts["same"] + counts["different"]
    accepted = answered + counts["no rule"] + counts["stand-alone refuses"]
    if accepted:
        print(f"  stand-alone answers {answered} of the {accepted} that vLLM accepts")
    wrong = counts["different"] + counts["stand-alone refuses"]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
