"""Available memory and tokens that real engines printed, on models of one cache group.

For one group tokens = blocks x block size in every version of vLLM. The memory is printed to
0.01 GiB, so the tokens must lie between those of 0.005 GiB less and 0.005 GiB more. Engines of
several ranks print one rank's memory and the tightest rank's tokens, so only engines of one GPU
count, and the systematic sweep's, whose memory is the tightest worker's.
"""

from __future__ import annotations

from typing import Any

import pytest

import vllm_kv_planner
from tests.shared import needs_shared, records
from vllm_kv_planner import Plan, PlannerError

GIB = 1 << 30
SWEEP = "h100_v0.19_sweep.jsonl"
FILES = (SWEEP, "startup_logs.jsonl", "startup_logs_2.jsonl")
EXPECTED_AT_LEAST = 45


def is_usable(row: dict[str, Any], file: str) -> bool:
    ranks = (row.get("tp") or 1) * (row.get("pp") or 1)
    one_rank = ranks == 1 or (file == SWEEP and (row.get("pp") or 1) == 1)
    return bool(one_rank and row.get("available_kv_gib") and row.get("kv_tokens"))


ROWS = [row for file in FILES for row in records(file) if is_usable(row, file)]


def planned(row: dict[str, Any], gib: float, monkeypatch: pytest.MonkeyPatch) -> Plan | None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    wanted = {
        "max_model_len": row.get("max_model_len"),
        "kv_cache_dtype": row.get("kv_cache_dtype"),
        "block_size": row.get("block_size"),
        "tensor_parallel_size": row.get("tp"),
    }
    given = {name: value for name, value in wanted.items() if value}
    try:
        return vllm_kv_planner.plan(
            row["model"], gpu="H100", kv_cache_memory_bytes=int(gib * GIB), **given
        )
    except PlannerError:
        return None


def tokens(plan: Plan) -> int:
    return plan.kv_cache.num_gpu_blocks * plan.kv_cache.groups[0].block_size


def test_tokens_lie_in_the_interval_that_rounding_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_shared()
    checked = 0
    for row in ROWS:
        low = planned(row, row["available_kv_gib"] - 0.005, monkeypatch)
        high = planned(row, row["available_kv_gib"] + 0.005, monkeypatch)
        if low is None or high is None or len(low.kv_cache.groups) != 1:
            continue  # unknown model, or groups, whose tokens older versions counted otherwise
        assert tokens(low) <= row["kv_tokens"] <= tokens(high), row["model"]
        checked += 1
    assert checked >= EXPECTED_AT_LEAST
