"""Random mixes of cache layers, against what vLLM 0.33's own planning code made of them.

``tools/make_cache_cases.py`` wrote ``data/vllm_0_33_cache.jsonl``; it says what the fields are.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from vllm_kv_planner.errors import UnsupportedError
from vllm_kv_planner.kv_cache import specs as classes
from vllm_kv_planner.kv_cache.capacity import KVCachePlan, Worker, plan_kv_cache
from vllm_kv_planner.kv_cache.group import resolve_layout, supported_by_all
from vllm_kv_planner.kv_cache.groups import group_layers
from vllm_kv_planner.kv_cache.specs import KVCacheSpec, RequestLimits

FILE = Path(__file__).parent / "data" / "vllm_0_33_cache.jsonl"
ROWS = list(map(json.loads, FILE.read_text(encoding="utf-8").splitlines()))


def spec_of(fields: dict[str, Any]) -> KVCacheSpec:
    kept = {key: value for key, value in fields.items() if key != "kind"}
    if "tokens_per_state" in kept and kept["tokens_per_state"] < 1:
        kept["tokens_per_state"] = Fraction(kept["tokens_per_state"])
    made: KVCacheSpec = getattr(classes, fields["kind"])(**kept)
    return made


def layers_of(row: dict[str, Any]) -> dict[str, KVCacheSpec]:
    specs = [spec_of(fields) for fields in row["specs"]]
    return {str(index): specs[which] for index, which in enumerate(row["pattern"])}


def layout_of(row: dict[str, Any]) -> str:
    readable = [None if each is None else tuple(each) for each in row["backends"]]
    return resolve_layout(supported_by_all(readable), layers_of(row).values())


def plan_of(row: dict[str, Any]) -> KVCachePlan:
    layers = layers_of(row)
    half = len(layers) // 2 if row["stages"] == 2 else len(layers)
    items = list(layers.items())
    limits = row["limits"]
    if row["auto"]:
        limits = {**limits, "max_model_len": row["model_max_len"]}
    return plan_kv_cache(
        [
            Worker(layers=dict(part), available_bytes=row["memory"] // (index + 1))
            for index, part in enumerate([items[:half], items[half:]][: row["stages"]])
        ],
        RequestLimits(**limits),
        layout=layout_of(row),
        model_max_len=row["model_max_len"],
        auto_fit=row["auto"],
        num_gpu_blocks_override=row["override"],
        hybrid_kv_cache_manager=row["hybrid"],
    )


@pytest.mark.parametrize("row", [row for row in ROWS if "refused" not in row["answer"]])
def test_vllm_answers(row: dict[str, Any]) -> None:
    answer = row["answer"]
    assert layout_of(row) == answer["layout"]
    groups = group_layers(layers_of(row), answer["layout"], hybrid_kv_cache_manager=row["hybrid"])
    assert [sorted(group.layers, key=int) for group in groups] == answer["groups"]
    assert [group.page_size_bytes for group in groups] == answer["pages"]
    plan = plan_of(row)
    assert [worker.bytes_per_block for worker in plan.workers] == answer["bytes_per_block"]
    assert plan.max_model_len_that_fits == answer["longest"]
    assert plan.fits == ("num_blocks" in answer)
    if plan.fits:
        assert plan.num_gpu_blocks == answer["num_blocks"]
        assert plan.max_model_len == answer["max_model_len"]
        assert plan.max_concurrency == answer["max_concurrency"]


@pytest.mark.parametrize("row", [row for row in ROWS if "refused" in row["answer"]])
def test_what_vllm_refuses_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError) as refusal:
        plan_of(row)
    words = str(refusal.value)
    assert len(words) > 30 and "\n" not in words
