"""Every plan that vLLM 0.33's own code made for a published config comes out the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.shared import config_files, records
from vllm_kv_planner import Plan
from vllm_kv_planner.planner import plan_of
from vllm_kv_planner.planning.request import plan_request

ROWS = records("vllm_plans.jsonl")


def ours(row: dict[str, Any]) -> Plan:
    request = plan_request(
        str(config_files()[row["hf_id"]]),
        gpu=row["gpu"],
        kv_cache_memory_bytes=row["kv_gib"] << 30,
        **row["args"],
    )
    return plan_of(request)


def groups_of_row(row: dict[str, Any]) -> Counter[tuple[int, int, int]]:
    return Counter(
        (group["num_layers"], group["block_size"], group["page_size_bytes"])
        for group in row["groups"]
    )


def groups_of_plan(plan: Plan) -> Counter[tuple[int, int, int]]:
    return Counter(
        (group.num_layers, group.block_size, group.page_size_bytes)
        for group in plan.kv_cache.groups
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r['hf_id']}-{r['args']}")
def test_same_as_vllm(row: dict[str, Any]) -> None:
    plan = ours(row)  # none is refused
    cache = plan.kv_cache
    assert cache.num_gpu_blocks == row["num_gpu_blocks"]
    assert cache.kv_cache_size_tokens == row["kv_cache_size_tokens"]
    assert round(cache.max_concurrency, 2) == row["max_concurrency"]
    assert groups_of_plan(plan) == groups_of_row(row)
    assert plan.engine.max_num_batched_tokens == row["max_num_batched_tokens"]
    assert plan.engine.max_num_seqs == row["max_num_seqs"]
