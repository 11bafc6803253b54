"""Latent attention, its indexers and DeepSeek-V4's caches, against values worked out by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from vllm_kv_planner import InputError, Plan, PlannerError, UnsupportedError
from vllm_kv_planner.config.find import FoundConfig
from vllm_kv_planner.model.describe import describe
from vllm_kv_planner.model.layers.base import CacheContext, CacheLayer
from vllm_kv_planner.planner import plan_of
from vllm_kv_planner.planning.request import plan_request

LATENTS = {
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "torch_dtype": "bfloat16",
}
"""DeepSeek-V3's sizes."""

V3 = LATENTS | {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3"}
V32 = LATENTS | {
    "architectures": ["DeepseekV32ForCausalLM"],
    "model_type": "deepseek_v32",
    "index_topk": 2048,
    "index_n_heads": 64,
    "index_head_dim": 128,
}
V4 = {
    "architectures": ["DeepseekV4ForCausalLM"],
    "model_type": "deepseek_v4",
    "hidden_size": 4096,
    "num_hidden_layers": 5,
    "num_attention_heads": 64,
    "num_key_value_heads": 1,
    "head_dim": 512,
    "qk_rope_head_dim": 64,
    "o_groups": 8,
    "index_topk": 512,
    "index_n_heads": 64,
    "index_head_dim": 128,
    "sliding_window": 128,
    "compress_ratios": [0, 128, 4, 128, 4],
    "vocab_size": 129280,
    "max_position_embeddings": 65536,
    "torch_dtype": "bfloat16",
}


def plan(config: dict[str, Any], gpu: str = "H100", **flags: Any) -> Plan:
    found = FoundConfig(id="inline", config=config, source="local")
    flags = {"max_model_len": 1024, "kv_cache_memory_bytes": 16 << 30, **flags}
    return plan_of(plan_request(found, gpu=gpu, **flags))


def pages(answer: Plan) -> Counter[tuple[int, int]]:
    """Layers by tokens of a block and bytes of a page."""
    pairs: Counter[tuple[int, int]] = Counter()
    for group in answer.kv_cache.groups:
        pairs[group.block_size, group.page_size_bytes] += group.num_layers
    return pairs


def context(**values: Any) -> CacheContext:
    usual: dict[str, Any] = {
        "tensor_parallel_size": 1,
        "dtype": "bfloat16",
        "kv_cache_dtype": "auto",
        "block_size": 64,
        "mamba_block_size": 64,
        "compute_capability": (9, 0),
        "max_num_batched_tokens": 8192,
    }
    return CacheContext(**usual | values)


def layers(config: dict[str, Any], **values: Any) -> list[CacheLayer]:
    return list(describe(config | values, where="config.json").layers)


def page_bytes(layer: CacheLayer, **values: Any) -> int:
    spec = layer.cache_spec(context(**values), None)
    assert spec is not None
    return spec.page_size_bytes


@pytest.mark.parametrize("ranks", [1, 2, 8, 16])
def test_every_rank_holds_the_whole_latents(ranks: int) -> None:
    assert plan(V3, tensor_parallel_size=ranks).kv_cache.bytes_per_token == 70_272 == 61 * 576 * 2


def test_fp8_halves_them() -> None:
    assert plan(V3, kv_cache_dtype="fp8").kv_cache.bytes_per_token == 35_136


def test_heads_that_ranks_cannot_share() -> None:
    with pytest.raises(InputError):
        plan(V3, tensor_parallel_size=3)


def test_widths_of_other_latents() -> None:
    assert plan(V3 | {"kv_lora_rank": 256}).kv_cache.bytes_per_token == 61 * (256 + 64) * 2


@pytest.mark.parametrize("change", [{"qk_rope_head_dim": 32}, {"v_head_dim": 256}])
def test_widths_that_no_prefill_backend_takes(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="No valid MLA prefill backend found"):
        plan(V3 | change)


def test_without_latent_widths_it_is_plain_attention() -> None:
    plain = {"qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "model_type": "deepseek"}
    layer = layers(V3 | plain, architectures=["DeepseekForCausalLM"])[0]
    assert page_bytes(layer, block_size=1) == 2 * 128 * (7168 // 128) * 2


def test_longcat_has_two_latents_a_layer() -> None:
    config = LATENTS | {"architectures": ["LongcatFlashForCausalLM"], "model_type": "longcat_flash"}
    config |= {"num_layers": 28, "num_hidden_layers": None}
    found = layers(config)
    assert len(found) == 56
    assert [layer.index for layer in found[:4]] == [0, 0, 1, 1]


def test_v32_stores_the_indexers_keys_beside_its_latents() -> None:
    # Hopper: FlashMLA sparse, blocks of 64 tokens; index keys of 128 values and one scale
    answer = plan(V32)
    assert answer.kv_cache.bytes_per_token == 61 * (576 * 2 + 132) == 78_324
    assert {group.block_size for group in answer.kv_cache.groups} == {64}


@pytest.mark.parametrize("ranks", [1, 8])
def test_v32_in_fp8_packs_rows_of_656_bytes(ranks: int) -> None:
    answer = plan(V32, kv_cache_dtype="fp8", tensor_parallel_size=ranks)
    assert answer.kv_cache.bytes_per_token == 61 * (656 + 132)


def test_layers_that_reuse_an_earlier_choice_have_no_indexer() -> None:
    # past the offset of 2, every fourth: layers 0, 1, 5 and 9 of 10
    found = layers(V32, num_hidden_layers=10, index_topk_freq=4)
    assert [layer.index for layer in found if type(layer).__name__ == "Indexer"] == [0, 1, 5, 9]
    patterned = layers(V32, num_hidden_layers=4, index_topk_pattern="FSSF")
    assert [layer.index for layer in patterned] == [0, 0, 1, 2, 3, 3]


def test_the_indexers_dtype_is_checked() -> None:
    with pytest.raises(InputError, match=r"compute capability 10"):
        plan(V32, attention_config={"indexer_kv_dtype": "mxfp4"})
    with pytest.raises(InputError, match="bf16"):
        plan(V32, attention_config={"indexer_kv_dtype": "bf16"})


def test_dense_latents_behind_sparse_ones_cannot_be_quantised() -> None:
    config = LATENTS | {"architectures": ["HYV4ForCausalLM"], "model_type": "hy_v4"}
    config |= {"num_hidden_layers": 3, "num_attention_heads": 32, "num_key_value_heads": 32}
    mixed = config | {"layer_types": ["full_attention", "sparse_attention", "full_attention"]}
    assert plan(mixed).kv_cache.num_gpu_blocks > 0
    with pytest.raises(PlannerError, match="fp8_ds_mla"):
        plan(mixed, kv_cache_dtype="fp8")


def test_dots3_pads_its_sparse_latents_to_the_windowed_ones() -> None:
    swa = {"num_attention_heads": 64, "kv_lora_rank": 1024, "qk_rope_head_dim": 64}
    config = LATENTS | {f"swa_{key}": value for key, value in swa.items()}
    config |= {"architectures": ["Dots3NoteForCausalLM"], "model_type": "dots3_note"}
    config |= {"num_hidden_layers": 2, "sliding_window_size": 512, "index_topk": 2048}
    found = layers(config, layer_types=["full_attention", "sliding_attention"])
    assert [page_bytes(layer, block_size=1) for layer in found] == [132, 1088 * 2, 1088 * 2]
    with pytest.raises(InputError, match="bfloat16"):
        page_bytes(found[1], kv_cache_dtype="fp8")


def test_v4_pages() -> None:
    """Rows of 584 bytes (512 fp8 less rope, 64 bf16 rope, scales), pages rounded up to 576."""
    found = [(type(layer).__name__, layer) for layer in layers(V4)]
    names = Counter(name for name, _ in found)
    assert names == {
        "WindowedLatents": 5,
        "CompressedLatents": 5,
        "CompressedIndex": 2,
        "OpenGroups": 4 + 2,
    }
    windowed = next(layer for name, layer in found if name == "WindowedLatents")
    assert page_bytes(windowed, kv_cache_dtype="fp8", block_size=256) == 37_440
    assert 37_440 == -(-64 * 584 // 576) * 576


def test_v4_keeps_windows_in_every_layer_and_groups_in_most() -> None:
    by_index = Counter(layer.index for layer in layers(V4))
    # a window and the (empty) compressed cache; open groups; an index and its open groups
    assert [by_index[index] for index in range(5)] == [2, 3, 5, 3, 5]


def aligned(size: int) -> int:
    return -(-size // 576) * 576


def test_v4_plans() -> None:
    # of 256 tokens: 64 latents and 64 index keys by fours, 2 latents by 128s, two layers each
    compressed = 2 * (aligned(64 * 584) + aligned(64 * 132) + aligned(2 * 584))
    # float32 keys and scores: two overlapping groups of four tokens, or one of 128
    light = 2 * (aligned(4 * 4 * 512 * 4) + aligned(4 * 4 * 128 * 4))
    heavy = 2 * aligned(8 * 2 * 512 * 4)
    windows = {(64, 2 * 37_440): 4, (64, 37_440): 1}
    expected = {(256, compressed): 6, (8, heavy): 2, (4, light): 4} | windows
    assert pages(plan(V4, max_model_len=8192)) == expected


@pytest.mark.parametrize(
    ("config", "values", "error"),
    [
        (V4, {"compress_ratios": [0, 128, 4, 128, 8]}, UnsupportedError),
        (V4, {"compress_ratios": [0, 4]}, PlannerError),
        (V32, {"index_topk_pattern": 7}, PlannerError),
        (V3, {"kv_lora_rank": -1}, PlannerError),
    ],
)
def test_configs_that_make_no_sense(
    config: dict[str, Any], values: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        layers(config, **values)
