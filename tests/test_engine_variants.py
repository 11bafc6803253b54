"""Engine flags in every combination that changes the KV cache, against vLLM's own answers.

``data/vllm_0_33_variants.jsonl`` holds what vLLM 0.33.0's own planning code answered for GPUs that
were not there (computed 2026-11-21, the rows of configs corrected on 2026-11-30 on that day; its
first line says what the fields are). Models are bundled ones, so nothing outside the repository is
needed.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vllm_kv_planner import PlannerError
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.planner import plan_of
from vllm_kv_planner.planning.request import PlanRequest, plan_request
from vllm_kv_planner.planning.standalone import StandalonePlan

FILE = Path(__file__).parent / "data" / "vllm_0_33_variants.jsonl"
HEAD, *ROWS = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
ANSWERED = [row for row in ROWS if "num_gpu_blocks" in row]
TOO_LONG = [row for row in ROWS if "longest" in row]
REFUSED = [row for row in ROWS if "refused" in row]


@pytest.fixture(autouse=True)
def _bundled_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def name(row: dict[str, Any]) -> str:
    short = ",".join(f"{key}={value}" for key, value in sorted(row["args"].items()))
    return f"{row['model'].split('/')[-1]}-{row['gpu']}-{row['kv_bytes'] >> 20}M-{short}"[:120]


def ours(row: dict[str, Any]) -> Any:
    return plan_of(
        plan_request(
            row["model"], gpu=row["gpu"], kv_cache_memory_bytes=row["kv_bytes"], **arguments(row)
        )
    )


def arguments(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in row["args"].items()
    }


def groups_of_stages(row: dict[str, Any]) -> list[Counter[tuple[int, int, int]]]:
    """Layers, block size and page bytes of every group, stage by stage."""
    args = EngineArgs(model=row["model"], kv_cache_memory_bytes=row["kv_bytes"], **arguments(row))
    found = find_config(row["model"])
    made = StandalonePlan(PlanRequest(found=found, args=args, gpu=row["gpu"]))
    return [
        Counter((len(g.layers), g.spec.block_size, g.page_size_bytes) for g in worker.groups)
        for worker in made.blocks.workers
    ]


@pytest.mark.parametrize("row", ANSWERED, ids=name)
def test_same_answer(row: dict[str, Any]) -> None:
    answer = ours(row)
    cache, engine = answer.kv_cache, answer.engine
    # vLLM's planning holds given memory against no GPU: what else says no is ours
    assert "one request of max_model_len" not in " ".join(answer.limits)
    assert cache.num_gpu_blocks == row["num_gpu_blocks"]
    assert cache.kv_cache_size_tokens == row["kv_cache_size_tokens"]
    assert cache.max_concurrency == row["max_concurrency"]
    assert engine.block_size == row["block_size"]
    assert [
        engine.dtype,
        engine.kv_cache_dtype,
        engine.quantization,
        engine.max_model_len,
        engine.max_num_batched_tokens,
        engine.max_num_seqs,
        engine.enable_prefix_caching,
    ] == row["engine"]
    theirs = [
        Counter({(layers, block, page): times for times, layers, block, page in stage})
        for stage in row["groups"]
    ]
    assert groups_of_stages(row) == [stage for stage in theirs if cache.groups]


@pytest.mark.parametrize("row", TOO_LONG, ids=name)
def test_same_longest_length(row: dict[str, Any]) -> None:
    answer = ours(row)
    assert not answer.fits
    assert answer.kv_cache.max_model_len_that_fits == row["longest"]


@pytest.mark.parametrize("row", REFUSED, ids=name)
def test_same_refusal(row: dict[str, Any]) -> None:
    with pytest.raises(PlannerError) as refusal:
        ours(row)
    assert row["refused"] in " ".join(str(refusal.value).split())
    assert "\n" not in str(refusal.value)


def test_the_file_says_where_it_is_from() -> None:
    assert "vLLM 0.33.0" in HEAD["origin"]
    assert FILE.stat().st_size <= 120_000
    assert len(ROWS) > 350
