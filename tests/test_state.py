"""States of Mamba, delta nets and convolutions, against values worked out by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

import vllm_kv_planner
from tests.state_configs import (
    CODESTRAL_MAMBA,
    FALCON_MAMBA,
    GRANITE_H,
    JAMBA,
    KIMI_LINEAR,
    LFM2,
    NEMOTRON_H,
    QWEN3_NEXT,
)
from vllm_kv_planner import InputError, Plan, PlannerError, UnsupportedError
from vllm_kv_planner.config.find import FoundConfig
from vllm_kv_planner.model.describe import describe
from vllm_kv_planner.model.layers.base import CacheContext, CacheLayer
from vllm_kv_planner.model.layers.mamba import (
    StateLayer,
    common_checkpoint_alignment,
    largest_state_bytes,
)


def context(**values: Any) -> CacheContext:
    usual: dict[str, Any] = {
        "tensor_parallel_size": 1,
        "dtype": "bfloat16",
        "kv_cache_dtype": "auto",
        "block_size": 16,
        "mamba_block_size": 16,
        "compute_capability": (9, 0),
        "max_num_batched_tokens": 8192,
    }
    return CacheContext(**usual | values)


def layers(config: dict[str, Any], **values: Any) -> list[CacheLayer]:
    return list(describe(config | values, where="config.json").layers)


def state_bytes(config: dict[str, Any], **values: Any) -> int:
    return largest_state_bytes(layers(config), context(**values))


def plan(config: dict[str, Any], gpu: str = "H100", **flags: Any) -> Plan:
    sizes = {"vocab_size": 65536, "max_position_embeddings": 131_072, "torch_dtype": "bfloat16"}
    found = FoundConfig(id="inline", config=sizes | config, source="local")
    flags = {"max_model_len": 8192, "kv_cache_memory_bytes": 16 << 30, **flags}
    return vllm_kv_planner.plan(found, gpu=gpu, **flags)


@pytest.mark.parametrize(
    ("config", "ranks", "expected"),
    [
        # three taps and a state of 16 per channel, two bytes each
        (FALCON_MAMBA, 1, 8192 * (3 + 16) * 2),
        (FALCON_MAMBA, 8, 1024 * (3 + 16) * 2),
        (JAMBA, 1, 2 * 4096 * (3 + 16) * 2),
        # convolution over channels, B and C of every group; a 64 x 128 state per head
        (CODESTRAL_MAMBA, 1, 3 * (8192 + 2 * 8 * 128) * 2 + 128 * 64 * 128 * 2),
        (CODESTRAL_MAMBA, 8, 3 * (1024 + 2 * 128) * 2 + 16 * 64 * 128 * 2),
        # a single group is copied to every rank
        (GRANITE_H, 1, 3 * (3072 + 2 * 128) * 2 + 48 * 64 * 128 * 2),
        (GRANITE_H, 4, 3 * (768 + 2 * 128) * 2 + 12 * 64 * 128 * 2),
        # queries, keys and values; a square per value head
        (QWEN3_NEXT, 1, 3 * (2 * 16 + 32) * 128 * 2 + 32 * 128 * 128 * 2),
        (QWEN3_NEXT, 4, 3 * (2 * 4 + 8) * 128 * 2 + 8 * 128 * 128 * 2),
        (LFM2, 1, 2 * 2048 * 2),
        # Kimi's squares are float32
        (KIMI_LINEAR, 1, 3 * 3 * 4096 * 2 + 32 * 128 * 128 * 4),
        (KIMI_LINEAR, 4, 3 * 3 * 1024 * 2 + 8 * 128 * 128 * 4),
    ],
)
def test_bytes_of_a_state(config: dict[str, Any], ranks: int, expected: int) -> None:
    assert state_bytes(config, tensor_parallel_size=ranks) == expected


def test_falcon_mamba_as_vllm_plans_it() -> None:
    assert state_bytes(FALCON_MAMBA) == 311_296


@pytest.mark.parametrize(
    ("flags", "conv", "recurrent"),
    [
        ({}, 2, 2),
        ({"mamba_cache_dtype": "float32"}, 4, 4),
        ({"mamba_ssm_cache_dtype": "float32"}, 2, 4),
        ({"mamba_cache_dtype": "float32", "mamba_ssm_cache_dtype": "bfloat16"}, 4, 2),
        ({"dtype": "float32"}, 4, 4),
    ],
)
def test_dtypes_of_a_state(flags: dict[str, str], conv: int, recurrent: int) -> None:
    expected = 3 * 10240 * conv + 128 * 64 * 128 * recurrent
    assert state_bytes(CODESTRAL_MAMBA, **flags) == expected


def test_draft_tokens_lengthen_the_convolution_and_add_blocks() -> None:
    drafts = {"num_speculative_tokens": 3}
    assert state_bytes(QWEN3_NEXT, **drafts) - state_bytes(QWEN3_NEXT) == 3 * 8192 * 2
    # Mamba 1 cannot speculate: its state stays as it is
    assert state_bytes(JAMBA, **drafts) == state_bytes(JAMBA)


@pytest.mark.parametrize(
    ("config", "ranks", "what"),
    [
        (FALCON_MAMBA, 3, "channels"),
        (CODESTRAL_MAMBA, 3, "groups"),
        (CODESTRAL_MAMBA, 16, "groups"),
        (QWEN3_NEXT, 32, "heads"),
        (KIMI_LINEAR, 5, "heads"),
    ],
)
def test_ranks_that_cannot_share(config: dict[str, Any], ranks: int, what: str) -> None:
    with pytest.raises(InputError, match=what):
        state_bytes(config, tensor_parallel_size=ranks)


def order(config: dict[str, Any], **values: Any) -> str:
    """One letter a layer: S for a state, A for attention."""
    return "".join(
        "S" if isinstance(layer, StateLayer) else "A" for layer in layers(config, **values)
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (JAMBA, "SSSSASSS" * 4),
        (NEMOTRON_H, "SSAS"),  # MLPs and experts keep nothing
        (QWEN3_NEXT, "SSSA" * 12),
        (GRANITE_H, "SSAS"),
        (LFM2, "SSASSASSASASASAS"),
        (KIMI_LINEAR, "SSSA"),
    ],
)
def test_order_of_layers(config: dict[str, Any], expected: str) -> None:
    assert order(config) == expected


def test_nemotron_h_counts_its_layers_by_the_pattern() -> None:
    assert [layer.index for layer in layers(NEMOTRON_H)] == [0, 2, 3, 5]


def test_granite_without_mamba_blocks_is_plain_attention() -> None:
    dense = GRANITE_H | {"layer_types": ["attention"] * 4}
    assert order(dense) == "AAAA"
    assert plan(dense).engine.block_size == 16


def test_falcon_h1_has_both_in_every_layer() -> None:
    config = GRANITE_H | {"architectures": ["FalconH1ForCausalLM"], "model_type": "falcon_h1"}
    config |= {"mamba_d_ssm": 1536, "mamba_n_heads": 24, "layer_types": None}
    assert order(config) == "ASASASAS"


def test_zamba2_shares_weights_not_caches() -> None:
    blocks = ["mamba", "hybrid", "mamba", "hybrid", "hybrid"]
    config = {"architectures": ["Zamba2ForCausalLM"], "model_type": "zamba2", "hidden_size": 512}
    config |= {"num_hidden_layers": 5, "num_attention_heads": 8, "n_mamba_heads": 16}
    found = layers(config, layers_block_type=blocks, num_mem_blocks=2)
    # attention first, by block of weights; then every layer's state
    assert [layer.index for layer in found] == [1, 4, 3, 0, 1, 2, 3, 4]
    spec = found[0].cache_spec(context(), None)
    assert spec is not None
    assert spec.page_size_bytes == 16 * 2 * 8 * (2 * 512 // 8) * 2


def test_checkpoints_inside_a_prefill() -> None:
    nets = layers(QWEN3_NEXT)
    aligned = {"mamba_cache_mode": "align"}
    assert common_checkpoint_alignment(nets, context(**aligned)) == 64
    # FlashInfer's kernel is not there on Ampere; without align nothing is exported
    assert common_checkpoint_alignment(nets, context(compute_capability=(8, 0), **aligned)) == 1
    assert common_checkpoint_alignment(nets, context()) == 1


def groups(answer: Plan) -> Counter[tuple[str, int]]:
    """Layers of each kind, by bytes of a page."""
    found: Counter[tuple[str, int]] = Counter()
    for group in answer.kv_cache.groups:
        found[group.kind, group.page_size_bytes] += group.num_layers
    return found


def test_attention_pages_grow_to_the_state() -> None:
    """Qwen3-Next: states of 1,097,728 bytes; 2,048 bytes of keys and values a token."""
    answer = plan(QWEN3_NEXT)
    state = 1_097_728
    assert state_bytes(QWEN3_NEXT) == state
    # steps of lcm(16, 64) tokens: 576 tokens are the first whose page holds a state
    page = 576 * 2048
    assert page - 64 * 2048 < state <= page
    assert answer.engine.block_size == 576
    assert {size for _, size in groups(answer)} == {page}
    assert sum(groups(answer).values()) == 48


def test_without_prefix_caching_a_request_keeps_one_state() -> None:
    per_request = [
        {
            group.kind: group.blocks_per_request
            for group in plan(NEMOTRON_H, enable_prefix_caching=flag).kv_cache.groups
        }
        for flag in (False, True)
    ]
    assert per_request[0]["mamba"] == 1
    assert per_request[1]["mamba"] > 1


@pytest.mark.parametrize("listed", [None, "float32", "bfloat16"])
def test_nemotron_h_says_what_its_state_is_kept_in(listed: str | None) -> None:
    values = {} if listed is None else {"mamba_ssm_cache_dtype": listed}
    model = describe(NEMOTRON_H | values, where="config.json")
    assert model.default_mamba_ssm_cache_dtype == (listed or "float32")


def test_mamba_alone_has_no_attention_page() -> None:
    answer = plan(FALCON_MAMBA, max_model_len=2048)
    assert groups(answer) == {("mamba", 311_296): 64}


@pytest.mark.parametrize(
    ("config", "values", "error"),
    [
        (GRANITE_H, {"layer_types": ["mamba", "attention"]}, PlannerError),
        (GRANITE_H, {"layer_types": ["mamba", "rwkv", "mamba", "mamba"]}, PlannerError),
        (NEMOTRON_H, {"hybrid_override_pattern": "M?"}, UnsupportedError),
        (KIMI_LINEAR, {"linear_attn_config": None}, PlannerError),
        (JAMBA, {"attn_layer_period": 0}, PlannerError),
    ],
)
def test_configs_that_make_no_sense(
    config: dict[str, Any], values: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        layers(config, **values)
