"""vLLM 0.33's own planning code, asked about engines with draft models, and the records of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import vllm_kv_planner
from tests.speculative_cases import CASES, EAGLE3, GIB, RECORDED, DraftCase, with_draft
from tests.speculative_cases import written as draft_folder
from tests.vllm_python import CUDA, interpreter
from vllm_kv_planner import InputError, VLLMPlanner

PYTHON = interpreter(CUDA)
ROWS = {row["id"]: row for row in map(json.loads, RECORDED.read_text().splitlines())}


@pytest.fixture(scope="module")
def planner() -> Iterator[VLLMPlanner]:
    with VLLMPlanner(python=PYTHON) as planner:
        yield planner


@pytest.mark.parametrize("case", CASES[::2], ids=lambda case: case.id)
def test_vllm_answers_as_recorded(planner: VLLMPlanner, case: DraftCase, tmp_path: Path) -> None:
    asked = case.arguments(tmp_path) | {"kv_cache_memory_bytes": 40 * GIB}
    target, row = case.target(tmp_path), ROWS[case.id]
    theirs = planner.plan(target, gpu="H100", **asked)
    assert theirs.kv_cache.num_gpu_blocks == row["num_gpu_blocks"]
    assert theirs.memory.weights_bytes == row["weights_bytes"]
    groups = [
        [g.kind, g.num_layers, g.block_size, g.page_size_bytes, g.blocks_per_request]
        for g in theirs.kv_cache.groups
    ]
    assert sorted(groups) == row["groups"]
    ours = vllm_kv_planner.plan(target, gpu="H100", planner="standalone", **asked)
    assert ours.kv_cache.max_concurrency == theirs.kv_cache.max_concurrency
    assert ours.kv_cache.max_model_len_that_fits == theirs.kv_cache.max_model_len_that_fits
    assert ours.engine.kv_cache_dtype == theirs.engine.kv_cache_dtype
    assert ours.engine.max_num_batched_tokens == theirs.engine.max_num_batched_tokens


def test_vllm_refuses_a_target_without_inner_states(planner: VLLMPlanner, tmp_path: Path) -> None:
    config = with_draft(draft_folder(EAGLE3, tmp_path), method="eagle3")
    with pytest.raises(InputError, match="does not support EAGLE3 interface"):
        planner.plan(
            "google/gemma-2-9b-it",
            gpu="H100",
            kv_cache_memory_bytes=40 * GIB,
            speculative_config=config,
        )
