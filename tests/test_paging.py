"""Paged and contiguous: figures worked out by hand, and the plans they must equal."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kv_planner import InputError, plan
from vllm_kv_planner.capacity.paged import held_by_request
from vllm_kv_planner.capacity.paging import paging
from vllm_kv_planner.kv_cache.spec import cdiv
from vllm_kv_planner.planning.request import plan_request
from vllm_kv_planner.planning.standalone import StandalonePlan

from .paging_cases import GIB, LLAMA, PER_TOKEN, one


def test_the_classic_scenarios_by_hand() -> None:
    answer = paging(LLAMA)
    expected = [
        # requests x max_model_len x 320 KiB, requests x tokens x 320 KiB
        (250.0, 15.625, 0.9375),
        (125.0, 31.25, 0.75),
        (200.0, 25.0, 0.875),
        (400.0, 25.0, 0.9375),
    ]
    for row, (contiguous, paged, share) in zip(answer.scenarios, expected, strict=True):
        assert row.contiguous_bytes == contiguous * GIB
        # whole blocks of 16: nothing is left over
        assert row.paged_bytes == row.token_bytes == paged * GIB
        assert row.saved_bytes == (contiguous - paged) * GIB
        assert row.saved_share == share
        assert (row.unfilled_bytes, row.padding_bytes, row.freed_bytes) == (0, 0, 0)
    # 138 GB of weights on one H100
    assert {row.fit_paged for row in answer.scenarios} == {0}
    assert any("more than the model's own 4,096" in note for note in answer.notes)
    assert any("does not start here: no memory is available" in note for note in answer.notes)


def test_the_null_block_and_whole_blocks_count() -> None:
    row = one(LLAMA, "100x512@8K", kv_cache_memory_bytes=40 * GIB)
    # 16 reservations of 2.5 GiB; 8,192 blocks of 5 MiB, one nobody's, 32 a request
    assert (row.fit_contiguous, row.fit_paged) == (16, 255)
    row = one(LLAMA, "100x512@8K", kv_cache_memory_bytes=40 * GIB - 1)
    # less than 8,192 blocks: the rest of the memory is nobody's either
    assert row.kv_cache_bytes == 8191 * 16 * PER_TOKEN
    assert (row.fit_contiguous, row.fit_paged) == (15, 255)


@pytest.mark.parametrize(
    ("block_size", "tokens", "slots"),
    [(16, 500, 512), (16, 513, 528), (128, 500, 512), (128, 513, 640), (32, 1, 32)],
)
def test_the_last_block(block_size: int, tokens: int, slots: int) -> None:
    row = one(LLAMA, f"7x{tokens}@8K", block_size=block_size)
    assert row.token_bytes == 7 * tokens * PER_TOKEN
    assert row.paged_bytes == 7 * slots * PER_TOKEN
    assert row.unfilled_bytes == 7 * (slots - tokens) * PER_TOKEN


def test_windows_free_what_they_passed() -> None:
    row = one("google/gemma-3-27b-it", "20x4096@32K", kv_cache_memory_bytes=10 * GIB)
    layer = 2 * 16 * 128 * 2  # bytes of one token in one layer
    full, windows = 10, 52
    block = 10 * 16 * layer  # of the largest group; the windows' have 9, 9, 9, 9, 8 and 8 layers
    # a window of 1,024 lies in 64 or 65 blocks
    assert [group.blocks for group in row.groups] == [65] * 6 + [256]
    assert row.paged_bytes == 20 * (6 * 65 + 256) * block
    assert row.token_bytes == 20 * (full * 4096 + windows * 1024) * layer
    assert row.unfilled_bytes == 20 * windows * 16 * layer
    assert row.padding_bytes == 20 * 65 * (1 + 1 + 1 + 1 + 2 + 2) * 16 * layer
    assert row.freed_bytes == 20 * windows * (4096 - 1024) * layer
    assert row.contiguous_bytes == 20 * 62 * 32768 * layer
    # 8,191 blocks; one request holds all of its prompt's (7 x 256), the others 646 each
    assert row.fit_paged == 1 + (8191 - 1792) // 646
    assert row.fit_contiguous == 10 * GIB // (62 * 32768 * layer)


def test_states_are_kept_once_and_paged_twice() -> None:
    row = one("Qwen/Qwen3-Next-80B-A3B-Instruct", "1x1000@32K", tensor_parallel_size=4)
    states, attention = row.groups[:3], row.groups[3]
    assert [group.kind for group in states] == ["mamba"] * 3
    # prefix caching: the state that the last block ended with beside the running one, and while
    # the prompt is computed one more, exported for later prompts
    for group in states:
        assert (group.blocks, group.peak_blocks) == (2, 3)
        assert group.unfilled_bytes == group.contiguous_bytes == group.token_bytes
    # one KV head a rank: 12 layers x 2 x 256 x 2 bytes, in blocks of 320 tokens
    assert attention.token_bytes == 1000 * 12 * 2 * 256 * 2
    assert (attention.blocks, attention.block_size) == (4, 320)
    assert attention.contiguous_bytes == 32768 * 12 * 2 * 256 * 2
    without = one(
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        "1x1000@32K",
        tensor_parallel_size=4,
        enable_prefix_caching=False,
    )
    assert [group.blocks for group in without.groups[:3]] == [1] * 3


def test_latents_are_stored_once() -> None:
    row = one("deepseek-ai/DeepSeek-V3.1", "3x1000@8K", tensor_parallel_size=8, gpu="H200")
    assert row.token_bytes == 3 * 1000 * 61 * 576 * 2
    assert row.paged_bytes == 3 * 1008 * 61 * 576 * 2


def test_decode_context_parallel_divides_tokens() -> None:
    row = one(
        "deepseek-ai/DeepSeek-V3.1",
        "1x1000@8K",
        tensor_parallel_size=8,
        decode_context_parallel_size=8,
        gpu="H200",
    )
    # 125 tokens a rank, in 8 blocks of 16
    assert row.token_bytes == 125 * 61 * 576 * 2
    assert row.paged_bytes == 128 * 61 * 576 * 2
    assert row.contiguous_bytes == 1024 * 61 * 576 * 2


def test_sizes_are_told_where_only_the_memory_is_not_known() -> None:
    answer = paging("Qwen/Qwen-7B", ["10x100@8K"], vllm_version="0.23")
    (row,) = answer.scenarios
    assert row.paged_bytes == 10 * 112 * 524_288
    assert (row.fit_contiguous, row.fit_paged, row.kv_cache_bytes) == (None, None, None)
    assert any(
        note.startswith("memory not known: weights of QWenLMHeadModel") for note in answer.notes
    )
    with pytest.raises(InputError, match="must be divisible"):
        paging("gpt2", ["10x100@1K"], tensor_parallel_size=5)


def test_a_model_without_a_cache() -> None:
    answer = paging("BAAI/bge-m3", ["5x100@512"])
    (row,) = answer.scenarios
    assert (row.contiguous_bytes, row.paged_bytes, row.saved_share) == (0, 0, None)
    assert (row.fit_contiguous, row.fit_paged) == (None, None)
    assert answer.notes[1:] == ("the model keeps no KV cache: there is nothing to page",)


def test_cross_attention_does_not_depend_on_the_tokens() -> None:
    short, long = paging("openai/whisper-large-v3", ["1x10", "1x448"]).scenarios
    assert short.max_model_len == 448
    assert short.groups[1] == long.groups[1]
    # 512 blocks for the largest encoder input of 8,192 tokens
    assert (short.groups[1].kind, short.groups[1].blocks) == ("cross_attention", 512)


ENGINES: list[tuple[str, dict[str, Any]]] = [
    ("meta-llama/Llama-3.1-8B-Instruct", {"gpu": "L4", "max_model_len": 4096}),
    ("google/gemma-3-27b-it", {"gpu": "H200"}),
    ("google/gemma-3-27b-it", {"gpu": "H200", "disable_hybrid_kv_cache_manager": True}),
    ("google/gemma-3-27b-it", {"pipeline_parallel_size": 2}),
    ("openai/gpt-oss-120b", {"tensor_parallel_size": 2, "kv_cache_dtype": "fp8"}),
    ("Qwen/Qwen3-Next-80B-A3B-Instruct", {"tensor_parallel_size": 4}),
    ("deepseek-ai/DeepSeek-V4-Flash", {"tensor_parallel_size": 8}),
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", {"tensor_parallel_size": 8, "gpu": "H200"}),
    ("state-spaces/mamba-2.8b-hf", {"vllm_version": "0.26.0"}),
    ("meta-llama/Llama-3.1-8B-Instruct", {"num_gpu_blocks_override": 777}),
]


@pytest.mark.parametrize(("model", "flags"), ENGINES)
def test_groups_and_blocks_are_the_plan_s(model: str, flags: dict[str, Any]) -> None:
    cache = StandalonePlan(plan_request(model, **flags))
    worker = cache.blocks.worker
    answer = plan(model, **flags).kv_cache
    assert worker is not None
    assert cache.blocks.num_gpu_blocks == answer.num_gpu_blocks
    assert worker.bytes_per_block == answer.bytes_per_block
    length = cache.planned_limits.max_model_len
    held = held_by_request(worker, cache.planned_limits, tokens=length)
    assert len(held) == len(answer.groups)
    for mine, group in zip(held, answer.groups, strict=True):
        assert (mine.kind, mine.num_layers) == (group.kind, group.num_layers)
        assert mine.block_size == group.block_size
        most = group.blocks_per_request
        if group.kind.startswith("sliding_window"):
            most = min(most, cdiv(length, group.block_size))
        assert mine.peak_blocks == most
