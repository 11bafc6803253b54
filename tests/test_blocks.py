"""Pages, groups, blocks and concurrency against values worked out by hand."""

from __future__ import annotations

import pytest

from vllm_kv_planner.errors import UnsupportedError
from vllm_kv_planner.kv_cache.capacity import KVCachePlan, Worker, plan_kv_cache
from vllm_kv_planner.kv_cache.groups import group_layers
from vllm_kv_planner.kv_cache.specs import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    MLAAttentionSpec,
    RequestLimits,
    SlidingWindowSpec,
)

GIB = 1 << 30


def full(heads: int = 8, head: int = 128, block: int = 16, **more: object) -> FullAttentionSpec:
    return FullAttentionSpec(
        block_size=block,
        num_kv_heads=heads,
        head_size=head,
        head_size_v=head,
        dtype_bytes=2,
        **more,  # type: ignore[arg-type]
    )


def sliding(window: int, heads: int = 8, head: int = 128, block: int = 16) -> SlidingWindowSpec:
    return SlidingWindowSpec(
        block_size=block,
        num_kv_heads=heads,
        head_size=head,
        head_size_v=head,
        dtype_bytes=2,
        sliding_window=window,
    )


def named(*specs: KVCacheSpec) -> dict[str, KVCacheSpec]:
    return {str(i): spec for i, spec in enumerate(specs)}


def plan(
    layers: dict[str, KVCacheSpec], *, length: int, in_flight: int = 0, memory: int = 40 * GIB
) -> KVCachePlan:
    return plan_kv_cache(
        [Worker(layers=layers, available_bytes=memory)],
        RequestLimits(max_model_len=length, max_in_flight_tokens=in_flight),
        layout="LBNHC",
        model_max_len=length,
    )


def test_full_attention_page_is_heads_tokens_and_both_widths() -> None:
    assert full(heads=8, head=128, block=16).page_size_bytes == 8 * 16 * (128 + 128) * 2


def test_one_kind_of_layer_is_one_group() -> None:
    answer = plan(named(*[full()] * 32), length=8192)
    # Llama-3.1-8B: 131,072 bytes a token, 2 MiB a block of 16
    assert answer.workers[0].bytes_per_block == 16 * 131_072
    assert answer.num_gpu_blocks == 40 * GIB // (16 * 131_072) == 20_480
    assert answer.max_concurrency == 20_480 / 512
    assert answer.kv_cache_size_tokens == 20_480 * 16


def test_gpt_oss_20b_needs_9225_blocks_a_request() -> None:
    layers = named(*[sliding(128, head=64), full(head=64)] * 12)
    answer = plan(layers, length=131_072, in_flight=2 * 8192)
    # 8192 for the full half; ceil((127 + 16384) / 16) + 1 = 1033 for the windows
    assert answer.workers[0].blocks_per_request == 8192 + 1033 == 9225


def test_gemma_3_27b_deals_its_windows_into_six_groups() -> None:
    pattern = ([sliding(1024, heads=16)] * 5 + [full(heads=16)]) * 10 + [
        sliding(1024, heads=16)
    ] * 2
    answer = plan(named(*pattern), length=131_072, in_flight=2 * 8192)
    groups = answer.workers[0].groups
    # 10 full layers; 52 windows in groups of at most 10, so that one group is padded
    assert sorted(len(group.layers) for group in groups) == [8, 8, 9, 9, 9, 9, 10]
    assert answer.workers[0].blocks_per_request == 8192 + 6 * 1089


def test_close_counts_share_the_larger_group_size() -> None:
    layers = named(*[sliding(128)] * 12, *[full()] * 13)
    assert [len(group.layers) for group in group_layers(layers, "LBNHC")] == [12, 13]


def test_without_the_hybrid_manager_windows_count_as_full() -> None:
    layers = named(*[sliding(128), full()] * 12)
    (group,) = group_layers(layers, "LBNHC", hybrid_kv_cache_manager=False)
    limits = RequestLimits(max_model_len=4096, max_in_flight_tokens=512)
    assert group.blocks_per_request(limits) == 256


def test_smaller_pages_get_larger_blocks_and_odd_ones_are_padded() -> None:
    layers = named(full(heads=8), sliding(128, heads=4), sliding(128, heads=3))
    pages = [
        (spec.block_size, spec.page_size_bytes)
        for group in group_layers(layers, "LBNHC")
        for spec in group.layers.values()
    ]
    assert pages == [(16, 65_536), (32, 65_536), (16, 65_536)]


def test_a_latent_layer_is_not_padded() -> None:
    latent = MLAAttentionSpec(block_size=64, num_kv_heads=1, head_size=576, dtype_bytes=2)
    assert latent.page_size_bytes == 64 * 1152
    layers = named(latent, sliding(128, heads=8, block=64))
    (group,) = group_layers(layers, "LBNHC")
    limits = RequestLimits(max_model_len=4096, max_in_flight_tokens=512)
    assert group.blocks_per_request(limits) == 64


def test_chunked_layers_hold_a_chunk_and_what_is_in_flight() -> None:
    spec = ChunkedLocalAttentionSpec(
        block_size=16,
        num_kv_heads=8,
        head_size=128,
        head_size_v=128,
        dtype_bytes=2,
        attention_chunk_size=8192,
    )
    limits = RequestLimits(max_model_len=1 << 20, max_in_flight_tokens=16_384)
    assert spec.blocks_per_request(limits) == (8192 + 16_384) // 16


def test_states_hold_more_copies_when_prefixes_are_cached() -> None:
    state = MambaSpec(block_size=528, state_bytes=1 << 20, num_prefill_checkpoint_blocks=1)
    plain = RequestLimits(max_model_len=4096, max_in_flight_tokens=512)
    aligned = RequestLimits(max_model_len=4096, max_in_flight_tokens=512, mamba_cache_mode="align")
    assert state.blocks_per_request(plain) == 1
    assert state.blocks_per_request(aligned) == 3


def test_context_parallel_ranks_share_the_tokens() -> None:
    limits = RequestLimits(
        max_model_len=4097, max_in_flight_tokens=512, decode_context_parallel_size=4
    )
    assert full().blocks_per_request(limits) == 65  # ceil(1025 / 16)
    assert full(dcp_sharded=False).blocks_per_request(limits) == 257


def test_the_null_block_is_counted_but_cannot_be_used() -> None:
    layers = named(full())
    page = layers["0"].page_size_bytes
    exactly = plan(layers, length=160, memory=10 * page)
    assert exactly.num_gpu_blocks == 10
    assert not exactly.fits
    assert exactly.max_model_len_that_fits == 144
    assert plan(layers, length=160, memory=11 * page).fits


def test_auto_fit_shrinks_the_length_to_the_memory() -> None:
    layers = named(full())
    answer = plan_kv_cache(
        [Worker(layers=layers, available_bytes=11 * layers["0"].page_size_bytes)],
        RequestLimits(max_model_len=4096, max_in_flight_tokens=512),
        layout="LBNHC",
        model_max_len=4096,
        auto_fit=True,
    )
    assert (answer.max_model_len, answer.max_concurrency) == (160, 1.1)


def test_the_stage_with_more_layers_decides() -> None:
    spec = full()
    stages = [named(*[spec] * 17), {str(17 + i): spec for i in range(16)}]
    answer = plan_kv_cache(
        [Worker(layers=layers, available_bytes=GIB) for layers in stages],
        RequestLimits(max_model_len=4096, max_in_flight_tokens=512),
        layout="LBNHC",
        model_max_len=4096,
    )
    assert answer.num_gpu_blocks == GIB // (17 * spec.page_size_bytes)
    assert answer.tightest == 0


def test_override_replaces_the_memory() -> None:
    answer = plan_kv_cache(
        [Worker(layers=named(full()), available_bytes=0)],
        RequestLimits(max_model_len=160, max_in_flight_tokens=512),
        layout="LBNHC",
        model_max_len=160,
        num_gpu_blocks_override=100,
    )
    assert (answer.num_gpu_blocks, answer.max_concurrency, answer.fits) == (100, 10.0, True)


def test_a_model_without_cache_gets_the_null_block() -> None:
    answer = plan({}, length=512)
    assert (answer.num_gpu_blocks, answer.max_concurrency, answer.fits) == (1, 0.0, True)


@pytest.mark.parametrize("layout", ["BLHNC", "BLNHC"])
def test_block_outermost_layouts_pack_mixed_pages(layout: str) -> None:
    state = MambaSpec(block_size=4096, state_bytes=100_000)
    layers = named(*[full(), state, state, state] * 2)
    groups = group_layers(layers, layout)
    # a block of the two attention pages (131,072 bytes) has room for one state
    assert [len(group.layers) for group in groups] == [2, 1, 1, 1, 1, 1, 1]


def test_windows_of_two_sizes_are_not_stored_as_full_attention() -> None:
    """vLLM ends with "must have the same window size" (``merge_window_sizes``)."""
    layers = named(full(), sliding(512), sliding(1024))
    with pytest.raises(UnsupportedError, match="windows of several sizes"):
        group_layers(layers, "LBNHC", hybrid_kv_cache_manager=False)
    assert len(group_layers(layers, "LBNHC")) == 3
    one_size = named(full(), sliding(512), sliding(512))
    assert len(group_layers(one_size, "LBNHC", hybrid_kv_cache_manager=False)) == 1


def test_latents_beside_pages_that_they_do_not_divide() -> None:
    """18,432 bytes beside 20,480: a latent page is not padded, a chunk not kept in full."""
    latent = MLAAttentionSpec(block_size=16, head_size=576, dtype_bytes=2)
    heads = {"num_kv_heads": 4, "head_size": 80, "head_size_v": 80, "dtype_bytes": 2}
    chunks = ChunkedLocalAttentionSpec(block_size=16, attention_chunk_size=8192, **heads)
    with pytest.raises(UnsupportedError, match="to one size: latent"):
        group_layers(named(latent, chunks), "LBNHC")
