"""Rules by layer inside a checkpoint's quantisation, on two models small enough to print.

Every figure is what vLLM 0.33 itself registers for the config: parameters and buffers of its own
model class on the meta device (``--planner vllm``).
"""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kv_planner import plan
from vllm_kv_planner.config.find import FoundConfig
from vllm_kv_planner.errors import ConfigError, InputError, UnsupportedError
from vllm_kv_planner.memory.weights.quantization.integers import DynamicRules, packed_linear
from vllm_kv_planner.memory.weights.quantization.schemes import AutoRound

from .weight_cases import estimate

DENSE: dict[str, Any] = {
    **{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 1024},
    **{"intermediate_size": 2816, "num_attention_heads": 16, "num_hidden_layers": 4},
    **{"num_key_value_heads": 4, "max_position_embeddings": 4096, "vocab_size": 32000},
    **{"tie_word_embeddings": False, "torch_dtype": "float16", "rope_theta": 10000.0},
}
EXPERTS: dict[str, Any] = {
    **{"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 1024},
    **{"moe_intermediate_size": 512, "intermediate_size": 2048, "head_dim": 64},
    **{"num_attention_heads": 16, "num_key_value_heads": 4, "num_experts": 8},
    **{"num_experts_per_tok": 2, "norm_topk_prob": True, "num_hidden_layers": 4},
    **{"max_position_embeddings": 4096, "vocab_size": 32000, "tie_word_embeddings": False},
    **{"torch_dtype": "float16", "decoder_sparse_step": 1, "mlp_only_layers": []},
}
FP8_BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
AUTO_ROUND = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}
MXFP = {**AUTO_ROUND, "data_type": "mx_fp", "group_size": 32}


def layer(number: int) -> list[str]:
    """Names of one decoder layer's matrices, as a checkpoint has them."""
    attention = [f"model.layers.{number}.self_attn.{name}_proj" for name in "qkvo"]
    mlp = [f"model.layers.{number}.mlp.{name}_proj" for name in ("gate", "up", "down")]
    return attention + mlp


def entries(names: list[str], **entry: object) -> dict[str, object]:
    return dict.fromkeys(names, entry)


DYNAMIC = {
    r"-:.*layers\.0\..*": {},
    r"+:.*layers\.1\.mlp.*": {"bits": 8, "group_size": 64},
    r".*\.3\..*down.*": {"group_size": 32},
}
BLOCKS = [["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["mlp.down_proj"]]
QUERIES = [f"layers.1.self_attn.{name}_proj" for name in "qkv"]
EXTRA = {
    **entries(layer(0), bits=8, group_size=64),
    **entries(layer(1), bits=16, data_type="fp"),
    "lm_head": {"bits": 4, "group_size": 128},
    r".*layers\.3\.mlp.*": {"bits": 8},
}
GROUPS = {
    "a": {
        "targets": ["re:.*self_attn.*"],
        "weights": {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True},
    },
    "b": {
        "targets": ["Linear"],
        "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128},
    },
}


@pytest.mark.parametrize(
    ("config", "rules", "registered"),
    [
        (DENSE, {**GPTQ, "dynamic": DYNAMIC}, 176_458_816),
        (DENSE, {**GPTQ, "modules_in_block_to_quantize": BLOCKS}, 195_401_792),
        (DENSE, {**GPTQ, "lm_head": True}, 106_527_808),
        (
            DENSE,
            {**AWQ, "modules_to_not_convert": [*QUERIES, "layers.2.mlp", "lm_head"]},
            170_175_552,
        ),
        (
            EXPERTS,
            {**AWQ, "modules_to_not_convert": ["mlp.gate", "layers.1.mlp.experts"]},
            181906496,
        ),
        (DENSE, AUTO_ROUND, 155_039_808),
        (
            DENSE,
            {**AUTO_ROUND, "block_name_to_quantize": "model.layers.1,model.layers.2"},
            188_416_064,
        ),
        (DENSE, {**AUTO_ROUND, "extra_config": EXTRA}, 133_519_424),
        (
            DENSE,
            {
                **AUTO_ROUND,
                **{"packing_format": "auto_round:auto_awq", "sym": False},
                "extra_config": entries(layer(2), bits=16),
            },
            171_727_936,
        ),
        (
            DENSE,
            {**AUTO_ROUND, "bits": 8, "data_type": "fp", "group_size": [128, 128]},
            176_714_560,
        ),
        (DENSE, MXFP, 155_568_192),
        (DENSE, {**MXFP, "bits": 8}, 178_112_576),
        (
            EXPERTS,
            {
                **MXFP,
                "extra_config": entries([f"model.layers.{i}.mlp.gate" for i in range(4)], bits=16),
            },
            163_990_592,
        ),
        (
            DENSE,
            {
                **{"quant_method": "compressed-tensors", "format": "pack-quantized"},
                **{"ignore": ["lm_head", r"re:.*layers\.0\.mlp.*"], "config_groups": GROUPS},
            },
            172_804_456,
        ),
        (
            DENSE,
            {
                **{"quant_method": "modelopt", "quant_algo": "FP8"},
                "exclude_modules": ["lm_head", "model.layers.0.mlp*", *layer(1)[:3]],
            },
            186_927_376,
        ),
        (
            DENSE,
            {
                **{"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"},
                "exclude_modules": ["lm_head"],
                "quantized_layers": {
                    **entries(layer(0) + layer(1), quant_algo="FP8"),
                    **entries(layer(2), quant_algo="NVFP4", group_size=16),
                },
            },
            183_044_328,
        ),
    ],
)
def test_layer_by_layer_as_vllm_registers(
    config: dict[str, Any], rules: dict[str, Any], registered: int
) -> None:
    (stage,) = estimate({**config, "quantization_config": rules}, dtype="float16").stages
    assert stage.num_bytes == registered


def test_of_equal_patterns_the_first_rule_decides() -> None:
    base = packed_linear("gptq", 4, 128)
    rules = DynamicRules({"-:a.*": {}, "+:a.*": {"bits": 8}, "b.*": {"bits": 8}}, base, "gptq")
    assert rules.method("a.proj") is None
    assert rules.method("b.proj") == packed_linear("gptq", 8, 128)
    assert rules.method("c.proj") == base


@pytest.mark.parametrize(
    "rules",
    [
        {**AUTO_ROUND, "bits": 3},
        {**AUTO_ROUND, "group_size": [128, 128]},
        {**AUTO_ROUND, "data_type": "fp", "bits": 8, "group_size": 128},
        {**AUTO_ROUND, "extra_config": {"model.layers.0.mlp.down_proj": {"bits": 2}}},
        {**AUTO_ROUND, "extra_config": {"(a+)+b": {"bits": 8}}},
        {**GPTQ, "dynamic": {".*mlp.*": {"bits": "many"}}},
        {**GPTQ, "dynamic": {".*mlp.*": {"group_size": True}}},
        {**GPTQ, "modules_in_block_to_quantize": [[7]]},
    ],
)
def test_what_no_rule_covers_is_refused(rules: dict[str, Any]) -> None:
    with pytest.raises((UnsupportedError, ConfigError)) as caught:
        estimate({**DENSE, "quantization_config": rules}, dtype="float16")
    assert "quantization_config" in str(caught.value)


def test_block_wise_floats_have_no_experts() -> None:
    config = {**AUTO_ROUND, "bits": 8, "data_type": "fp", "group_size": [128, 128]}
    with pytest.raises(UnsupportedError, match="experts"):
        AutoRound(config, is_composite=False).experts("model.layers.0.mlp.experts")


INT4_GROUPS = {
    **{"quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"]},
    "config_groups": {"b": GROUPS["b"]},
}
NVFP4 = {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}


@pytest.mark.parametrize(
    ("quantization", "words"),
    [
        (INT4_GROUPS, r"expert's width on a rank \(64\) .* group_size \(128\).*--enable-expert"),
        (NVFP4, r"not multiple of 16 \(8 on a rank\)"),
    ],
)
def test_a_rank_holds_whole_groups(quantization: dict[str, Any], words: str) -> None:
    """As vLLM 0.33's ``create_weights`` of both methods refuses them."""
    sizes = {"moe_intermediate_size": 512, "intermediate_size": 64, "num_attention_heads": 8}
    config = {**EXPERTS, **sizes, "mlp_only_layers": [0], "quantization_config": quantization}
    found = FoundConfig(id="a/b", config=config, source="bundled")
    for given in ({}, {"kv_cache_memory_bytes": 8 << 30}):
        with pytest.raises(InputError, match=words):
            plan(found, gpu="H100", tensor_parallel_size=8, **given)
    assert plan(found, gpu="H100", tensor_parallel_size=2).memory.weights_bytes


@pytest.mark.parametrize("ranks", [4, 8, 16])
def test_keys_and_values_of_a_merged_layer_may_end_within_a_block(ranks: int) -> None:
    """MiMo-V2-Flash: one KV head of 192 a rank, in blocks of 128; vLLM accepts it."""
    config = {
        **{"architectures": ["MiMoV2FlashForCausalLM"], "model_type": "mimo_v2_flash"},
        **{"hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 4},
        **{"num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 192},
        **{"v_head_dim": 128, "swa_num_attention_heads": 64, "swa_num_key_value_heads": 8},
        **{"swa_head_dim": 192, "swa_v_head_dim": 128, "sliding_window_size": 128},
        **{"hybrid_layer_pattern": [0, 1, 1, 1], "moe_layer_freq": [0, 1, 1, 1]},
        **{"n_routed_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 2048},
        **{"vocab_size": 152576, "max_position_embeddings": 262144, "torch_dtype": "bfloat16"},
        "quantization_config": {**FP8_BLOCKS, "activation_scheme": "dynamic"},
    }
    found = FoundConfig(id="a/b", config=config, source="bundled")
    given: dict[str, Any] = {"tensor_parallel_size": ranks, "kv_cache_memory_bytes": 8 << 30}
    assert plan(found, gpu="H200", planner="standalone", max_model_len=4096, **given).fits
