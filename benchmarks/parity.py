#!/usr/bin/env python3
"""Both planners over every published config: where they agree, where not, who refuses.

python benchmarks/parity.py --vllm-python PYTHON [--slice N] [--families] [--output FILE]

Every config in ../shared/configs, on three GPUs, at TP 1 and 8, with the KV cache as the
checkpoint says and in fp8, for a fixed KV memory: layer groups, block size, bytes per block,
blocks, tokens and concurrency must be the same. "No rule" is the stand-alone planner's honest
refusal; "stand-alone refuses" is one of what vLLM accepts, and counts as a disagreement. An older
vLLM is compared with the stand-alone planner's rules for that version; --families takes, in place
of every config, those models whose rules changed between versions, and plain ones beside them. With
--output vLLM's answers are kept, and a second run asks only for those that are new. Exit code 1
where any case disagrees.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import vllm_kv_planner
from vllm_kv_planner import Plan, PlannerError, UnsupportedError, VLLMPlanner

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
sys.path.insert(0, str(ROOT))  # sketched configs of the tests
GPUS = ("H100", "L4", "B200")
WAYS = ((1, "auto"), (1, "fp8"), (8, "auto"), (8, "fp8"))
MEMORY = 40 << 30
LENGTH = 8192

FAMILIES = (
    *("Qwen/Qwen3-Next-80B-A3B-Instruct", "nvidia/NVIDIA-Nemotron-Nano-9B-v2"),
    *("zai-org/GLM-5.3-Flash", "deepseek-ai/DeepSeek-V4-Flash", "zai-org/GLM-5.2-FP8"),
    *("google/gemma-4-26B-A4B-it", "google/gemma-3-27b-it", "openai/gpt-oss-20b"),
    *("ai21labs/AI21-Jamba-1.5-Mini", "moonshotai/Kimi-K3", "deepseek-ai/DeepSeek-V3.2"),
    *("Qwen/Qwen3-8B", "nvidia/Qwen3.6-35B-A3B-NVFP4", "tiiuae/falcon-mamba-7b"),
    *("deepseek-ai/DeepSeek-V3", "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8"),
    *("Qwen/Qwen3.5-35B-A3B", "nvidia/Nemotron-H-56B-Base-8K", "google/gemma-4-E4B-it"),
    *("mistralai/Mamba-Codestral-7B-v0.1", "MiniMaxAI/MiniMax-M2.5", "google/gemma-2-9b-it"),
    *("meta-llama/Llama-4-Scout-17B-16E-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
    *("mistralai/Mistral-7B-v0.1", "Qwen/Qwen3-30B-A3B-FP8", "deepseek-ai/DeepSeek-V2-Lite"),
    *("Qwen/Qwen3-8B-AWQ", "openai-community/gpt2", "openai/whisper-large-v3"),
)
"""By Hub id; in these a preset is known, or a config at hand."""
SKETCHED = ("KIMI_LINEAR", "LFM2", "GRANITE_H", "FALCON_H1")
"""Families without a published config at hand, of ``tests/state_configs.py``."""


def models(folder: Path, *, families: bool) -> list[tuple[str, str]]:
    """Name and config of every model; ``folder`` takes those that are sketched here."""
    if not families:
        with (SHARED / "configs" / "INDEX.tsv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return [(row["hf_id"], str(SHARED / "configs" / row["file"])) for row in rows]
    from tests import state_configs

    found = []
    for each in SKETCHED:
        path = folder / each / "config.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(getattr(state_configs, each)), encoding="utf-8")
        found.append((each, str(path)))
    return [*found, *((each, each) for each in FAMILIES)]


def cases(folder: Path, *, families: bool = False) -> Iterator[dict[str, Any]]:
    """GPU by GPU: each needs a process of its own."""
    for gpu in GPUS:
        for name, config in models(folder, families=families):
            for tp, kv_cache_dtype in WAYS:
                yield {
                    "id": f"{name} {gpu} TP {tp} {kv_cache_dtype}",
                    "config": config,
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
        "max_num_batched_tokens": plan.engine.max_num_batched_tokens,
        "max_num_seqs": plan.engine.max_num_seqs,
        "enable_prefix_caching": plan.engine.enable_prefix_caching,
        "bytes_per_token": cache.bytes_per_token,
        "bytes_per_block": cache.bytes_per_block,
        "num_gpu_blocks": cache.num_gpu_blocks,
        "kv_cache_size_tokens": cache.kv_cache_size_tokens,
        "max_concurrency": cache.max_concurrency,
        "max_model_len_that_fits": cache.max_model_len_that_fits,
        # vLLM's own check; whether the card holds the memory that is given is no question to vLLM
        "fits": (cache.max_model_len_that_fits or 0) >= plan.engine.max_model_len,
    }


def asked(case: dict[str, Any], arguments: dict[str, Any], planner: VLLMPlanner) -> dict[str, Any]:
    """vLLM's answer, or its refusal, and who gave it."""
    started = time.perf_counter()
    ready = planner.child(case["gpu"])[0].ready
    row = {"id": case["id"], "vllm_version": ready["vllm_version"], "arguments": arguments}
    try:
        row["vllm"] = compared(planner.plan(case["config"], gpu=case["gpu"], **arguments))
    except PlannerError as error:
        row["refusal"] = str(error)
    return {**row, "s": round(time.perf_counter() - started, 2)}


def judged(case: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """``same``, ``different``, or which side refuses, with the reason."""
    try:
        plan = vllm_kv_planner.plan(
            case["config"],
            gpu=case["gpu"],
            planner="standalone",
            vllm_version=row["vllm_version"],
            **row["arguments"],
        )
    except PlannerError as error:
        if "refusal" in row:
            return {"verdict": "both refuse", "refusals": [str(error), row["refusal"]]}
        unknown = isinstance(error, UnsupportedError)
        verdict = "no rule" if unknown else "stand-alone refuses"
        return {"verdict": verdict, "refusals": [str(error)]}
    if "refusal" in row:
        return {"verdict": "vLLM refuses", "refusals": [row["refusal"]]}
    ours = json.loads(json.dumps(compared(plan)))
    differences = {
        key: [value, row["vllm"][key]] for key, value in ours.items() if value != row["vllm"][key]
    }
    return {"verdict": "different" if differences else "same", "differences": differences}


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


def flags(description: str, gpus: Iterable[str]) -> argparse.ArgumentParser:
    """What a comparison with vLLM over published configs takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--vllm-python", default=os.environ.get("KV_PLANNER_PYTHON"))
    parser.add_argument("--slice", type=int, metavar="N", help="every Nth case only")
    parser.add_argument("--output", type=Path, help="JSON lines; read first, then added to")
    parser.add_argument("--gpu", choices=gpus, help="cases of one GPU only")
    return parser


def main() -> int:
    """Run, keep, count."""
    parser = flags("Compare both planners.", GPUS)
    parser.add_argument("--families", action="store_true", help="models of every kind only")
    given = parser.parse_args()
    if not SHARED.is_dir():
        print("skipped: needs ../shared/configs, which is not part of the repository")
        return 0
    done = kept(given.output)
    counts: Counter[str] = Counter()
    versions = set()
    with (
        tempfile.TemporaryDirectory() as folder,
        VLLMPlanner(python=given.vllm_python) as planner,
    ):
        wanted = list(cases(Path(folder), families=given.families))
        wanted = [case for case in wanted if given.gpu in (None, case["gpu"])]
        for case in wanted[:: given.slice or 1]:
            row = done.get(case["id"])
            if row is None:
                row = json.loads(json.dumps(asked(case, with_length(case), planner)))
                if given.output is not None:
                    with given.output.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
            answer = judged(case, row)
            counts[answer["verdict"]] += 1
            versions.add(row["vllm_version"])
            if answer["verdict"] in ("different", "stand-alone refuses", "vLLM refuses"):
                print(json.dumps({"id": case["id"], **answer}), flush=True)
    print(f"vLLM {', '.join(sorted(versions))}, {date.today()}: {counts.total()} cases")
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
