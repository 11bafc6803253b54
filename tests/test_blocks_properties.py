"""Properties that hold for every mix of layers, memory and length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vllm_kv_planner.kv_cache.capacity import KVCachePlan, Worker, plan_kv_cache
from vllm_kv_planner.kv_cache.specs import (
    FullAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    RequestLimits,
    SlidingWindowSpec,
)

LONGEST = 1 << 20

heads = st.sampled_from([1, 2, 4, 8, 16])
head_sizes = st.sampled_from([64, 80, 128, 256])


@st.composite
def attention(draw: st.DrawFn) -> KVCacheSpec:
    common = {
        "block_size": 16,
        "num_kv_heads": draw(heads),
        "head_size": 64,
        "head_size_v": draw(head_sizes),
        "dtype_bytes": draw(st.sampled_from([1, 2])),
    }
    window = draw(st.sampled_from([None, 128, 1024, 4096]))
    if window is None:
        return FullAttentionSpec(**common)
    return SlidingWindowSpec(sliding_window=window, **common)


@st.composite
def models(draw: st.DrawFn) -> dict[str, KVCacheSpec]:
    kinds = draw(st.lists(attention(), min_size=1, max_size=3))
    if draw(st.booleans()):
        kinds.append(MambaSpec(block_size=LONGEST, state_bytes=draw(st.integers(1, 10_000_000))))
    pattern = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=12))
    return {str(i): spec for i, spec in enumerate(pattern)}


def plan(
    layers: dict[str, KVCacheSpec], memory: int, length: int, in_flight: int = 4096
) -> KVCachePlan:
    return plan_kv_cache(
        [Worker(layers=layers, available_bytes=memory)],
        RequestLimits(max_model_len=length, max_in_flight_tokens=in_flight),
        layout="LBNHC",
        model_max_len=LONGEST,
    )


memories = st.integers(1 << 20, 1 << 36)
lengths = st.integers(1, LONGEST)


@given(models(), memories, lengths)
def test_blocks_never_exceed_the_memory(
    layers: dict[str, KVCacheSpec], memory: int, length: int
) -> None:
    answer = plan(layers, memory, length)
    per_block = answer.workers[0].bytes_per_block
    assert answer.num_gpu_blocks * per_block <= memory < (answer.num_gpu_blocks + 1) * per_block


@given(models(), memories, lengths)
def test_longest_length_fits_and_one_more_token_does_not(
    layers: dict[str, KVCacheSpec], memory: int, length: int
) -> None:
    longest = plan(layers, memory, length).max_model_len_that_fits
    if longest:
        assert plan(layers, memory, longest).fits
    if longest < LONGEST:
        assert not plan(layers, memory, longest + 1).fits


@given(models(), memories, st.integers(0, 1 << 30), lengths)
def test_more_memory_never_holds_less(
    layers: dict[str, KVCacheSpec], memory: int, more: int, length: int
) -> None:
    small, large = plan(layers, memory, length), plan(layers, memory + more, length)
    assert small.num_gpu_blocks <= large.num_gpu_blocks
    assert small.max_concurrency <= large.max_concurrency
    assert small.max_model_len_that_fits <= large.max_model_len_that_fits
    assert small.fits <= large.fits


@given(models(), memories, lengths, st.integers(0, 1 << 16))
def test_longer_requests_never_run_more_at_once(
    layers: dict[str, KVCacheSpec], memory: int, length: int, more: int
) -> None:
    longer = min(length + more, LONGEST)
    assert (
        plan(layers, memory, longer).max_concurrency <= plan(layers, memory, length).max_concurrency
    )


@given(models(), memories, lengths, st.integers(0, 1 << 16))
def test_larger_batches_never_run_more_at_once(
    layers: dict[str, KVCacheSpec], memory: int, length: int, more: int
) -> None:
    assert (
        plan(layers, memory, length, 4096 + more).max_concurrency
        <= plan(layers, memory, length).max_concurrency
    )


@given(models(), memories, lengths)
def test_every_layer_is_in_one_group(
    layers: dict[str, KVCacheSpec], memory: int, length: int
) -> None:
    groups = plan(layers, memory, length).workers[0].groups
    assert sorted(name for group in groups for name in group.layers) == sorted(layers)
