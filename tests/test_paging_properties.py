"""Paged and contiguous: what holds for every model and every length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vllm_kv_planner.capacity.paged import held_by_request
from vllm_kv_planner.kv_cache.capacity import WorkerBlocks
from vllm_kv_planner.kv_cache.spec import cdiv
from vllm_kv_planner.kv_cache.specs import KVCacheSpec, MambaSpec, RequestLimits, SlidingWindowSpec

from .paging_cases import LLAMA, PER_TOKEN, one
from .test_blocks_properties import models
from .test_blocks_properties import plan as plan_layers

LIMITS = RequestLimits(max_model_len=1 << 17, max_in_flight_tokens=8192)

tokens = st.integers(1, LIMITS.max_model_len)


def worker_of(layers: dict[str, KVCacheSpec]) -> WorkerBlocks:
    return plan_layers(layers, 1 << 30, LIMITS.max_model_len).workers[0]


@given(models(), tokens)
def test_blocks_are_tokens_and_waste(layers: dict[str, KVCacheSpec], length: int) -> None:
    worker = worker_of(layers)
    for group, held in zip(
        worker.groups, held_by_request(worker, LIMITS, tokens=length), strict=True
    ):
        parts = held.token_bytes + held.unfilled_bytes + held.padding_bytes
        assert parts == held.blocks * worker.bytes_per_block
        assert min(held.token_bytes, held.unfilled_bytes, held.padding_bytes) >= 0
        # less than the last block; a window also has a first one that it half left
        partial = 2 if isinstance(group.spec, SlidingWindowSpec) else 1
        page = sum(count * spec.unpadded_page_size_bytes for spec, count in group.distinct)
        assert held.unfilled_bytes < partial * page
        if isinstance(group.spec, MambaSpec):
            assert held.unfilled_bytes == 0
        assert held.blocks <= held.peak_blocks


@given(models(), tokens)
def test_never_more_tokens_than_are_reserved(layers: dict[str, KVCacheSpec], length: int) -> None:
    worker = worker_of(layers)
    for held in held_by_request(worker, LIMITS, tokens=length):
        assert held.freed_bytes >= 0
        assert held.token_bytes + held.freed_bytes <= held.contiguous_bytes
    for held in held_by_request(worker, LIMITS, tokens=LIMITS.max_model_len):
        assert held.token_bytes + held.freed_bytes == held.contiguous_bytes


@given(models(), tokens, tokens)
def test_longer_requests_hold_no_less(layers: dict[str, KVCacheSpec], a: int, b: int) -> None:
    worker = worker_of(layers)
    shorter, longer = (held_by_request(worker, LIMITS, tokens=each) for each in sorted((a, b)))
    for less, more in zip(shorter, longer, strict=True):
        assert less.blocks <= more.blocks and less.peak_blocks <= more.peak_blocks
        assert less.token_bytes <= more.token_bytes


@given(st.integers(1, 8192), st.sampled_from([16, 32, 64, 128]), st.integers(1, 400))
def test_plain_models_never_pay_for_paging(length: int, block_size: int, requests: int) -> None:
    row = one(LLAMA, f"{requests}x{length}@8192", block_size=block_size)
    assert row.token_bytes <= row.paged_bytes <= row.contiguous_bytes
    assert row.paged_bytes - row.token_bytes < requests * block_size * PER_TOKEN
    assert row.contiguous_bytes - row.paged_bytes == row.saved_bytes


@given(models(), tokens)
def test_a_window_holds_what_vllm_s_manager_leaves(
    layers: dict[str, KVCacheSpec], length: int
) -> None:
    """vLLM frees the blocks wholly below the window of the next token, after each step."""
    worker = worker_of(layers)
    for group, held in zip(
        worker.groups, held_by_request(worker, LIMITS, tokens=length), strict=True
    ):
        if isinstance(group.spec, SlidingWindowSpec):
            window, size = group.spec.sliding_window, group.spec.block_size
            real = cdiv(length, size) - max(0, length - window) // size
            assert real <= held.blocks <= real + 1
