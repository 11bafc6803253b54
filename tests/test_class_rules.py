"""Contradictory configs: refused as vLLM 0.33 and its transformers classes refuse them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.hostile_configs import LLAMA, MOE, JsonDict, fp8, planned, tensors
from vllm_kv_planner.config.presets import find_preset
from vllm_kv_planner.errors import ConfigError, PlannerError
from vllm_kv_planner.model.describe import describe


def preset(name: str) -> JsonDict:
    found = find_preset(name)
    assert found is not None
    copy: JsonDict = json.loads(json.dumps(found.config))
    return copy


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONGROPE: JsonDict = {"rope_type": "longrope", "original_max_position_embeddings": 4096}
QWEN3 = {**LLAMA, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 128}
MISTRAL = {**QWEN3, "architectures": ["MistralForCausalLM"], "model_type": "mistral"}
DEEPSEEK = preset("deepseek-ai/DeepSeek-V3")
JAMBA = preset("ai21labs/AI21-Jamba-1.5-Large")
WHISPER = preset("openai/whisper-tiny")
QWEN_VL = preset("Qwen/Qwen2-VL-7B-Instruct")


@pytest.mark.parametrize(
    ("base", "change", "says"),
    [
        (LLAMA, {"num_attention_heads": 33}, r"\(4096\) must be a multiple of .* \(33\)"),
        (QWEN3, {"num_key_value_heads": 5}, r"\(32\) is not divisible by the KV heads \(5\)"),
        (QWEN3, {"num_key_value_heads": 64}, r"\(32\) is not divisible by the KV heads \(64\)"),
        (QWEN3, {"layer_types": ["full_attention"] * 31}, "lists 31 layers, num_hidden_layers is"),
        (QWEN3, {"layer_types": ["full_attention"] * 33}, "lists 33 layers, num_hidden_layers is"),
        (QWEN3, {"layer_types": ["odd_kind"] * 32}, r"layer_types\[0\] must be one of chunked_"),
        (MISTRAL, {"num_key_value_heads": None}, "must be int in a mistral config, is null"),
        (QWEN3, {"num_hidden_layers": 32.0}, "num_hidden_layers must be"),
        (DEEPSEEK, {"n_routed_experts": None}, "n_routed_experts must be int in a deepseek_v3"),
        (DEEPSEEK, {"kv_lora_rank": None}, "kv_lora_rank must be int in a deepseek_v3"),
        (MOE, {"norm_topk_prob": None}, "norm_topk_prob must be bool in a qwen3_moe config"),
        (LLAMA, {"tie_word_embeddings": 1}, "tie_word_embeddings must be bool in a llama"),
        (QWEN3, {"head_dim": 127}, r"head_dim \(127\) must be even"),
        (QWEN3, {"partial_rotary_factor": 0.0}, "partial_rotary_factor =0 must be above 0"),
        (
            LLAMA,
            {"rope_scaling": {"rope_type": "odd_kind", "factor": 2.0}},
            "rope_type must be one",
        ),
        (LLAMA, {"rope_scaling": {"type": "linear"}}, "factor is not given, rope_type linear"),
        (LLAMA, {"rope_scaling": {"rope_type": "dynamic"}}, "factor is not given, rope_type dyn"),
        (LLAMA, {"rope_scaling": {"rope_type": "yarn"}}, "factor is not given, rope_type yarn"),
        (
            LLAMA,
            {"rope_scaling": {**LLAMA3, "low_freq_factor": None}},
            "low_freq_factor is not given, rope_type llama3",
        ),
        (LLAMA, {"rope_scaling": {**YARN, "type": "linear"}}, r"\(yarn\) and type \(linear\) con"),
        (LLAMA, {"rope_scaling": LONGROPE}, "short_factor is not given, rope_type longrope"),
        (
            LLAMA,
            {"rope_scaling": {**LONGROPE, "short_factor": [1.0] * 5, "long_factor": [1.0] * 64}},
            r"short_factor must list 64 numbers \(half of a head's width\), lists 5",
        ),
        (DEEPSEEK, {"rope_scaling": {"type": "linear", "factor": 2.0}}, "original_max_position_e"),
        (MOE, {"num_experts": 0}, "num_experts must be 1 or more, as layers of experts are made"),
        (MOE, {"decoder_sparse_step": 0}, "decoder_sparse_step must be a whole number from 1"),
        (DEEPSEEK, {"moe_layer_freq": 0}, "moe_layer_freq must be a whole number from 1"),
        (JAMBA, {"attn_layer_offset": 8}, r"\(8\) must be smaller than attn_layer_period \(8\)"),
        (JAMBA, {"expert_layer_offset": 2}, r"must be smaller than expert_layer_period \(2\)"),
        (WHISPER, {"decoder_attention_heads": 7}, "must be a multiple of decoder_attention_heads"),
        (WHISPER, {"encoder_attention_heads": 7}, "must be a multiple of encoder_attention_heads"),
        (
            QWEN_VL,
            {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 25]}},
            "mrope_section must add up to 64",
        ),
    ],
)
def test_refused(base: JsonDict, change: JsonDict, says: str) -> None:
    with pytest.raises(PlannerError, match=says) as refused:
        describe({**base, **change}, where="config.json")
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("base", "change"),
    [
        (LLAMA, {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 8192}}),
        (LLAMA, {"rope_scaling": YARN}),
        (LLAMA, {"rope_scaling": {"type": "dynamic", "alpha": 1000.0}}),
        (LLAMA, {"rope_scaling": {"type": "su", **LONGROPE} | {"rope_type": "longrope"}}),
        (QWEN3, {"layer_types": ["attention"] * 32}),  # a name of earlier days
        (QWEN3, {"num_key_value_heads": None}),
        (QWEN3, {"head_dim": 126}),
        (QWEN_VL, {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}),
        (
            LLAMA,
            {
                **{
                    "model_type": "of_its_own_code",
                    "auto_map": {"AutoConfig": "a.B"},
                },
                **{"tie_word_embeddings": 1, "rope_scaling": YARN},
            },
        ),
    ],
)
def test_accepted(base: JsonDict, change: dict[str, Any]) -> None:
    config = {**base, **change}
    if "longrope" in json.dumps(config):
        config["rope_scaling"] |= {"short_factor": [1.0] * 64, "long_factor": [1.0] * 64}
    assert describe(config, where="config.json").num_hidden_layers > 0


def test_overrides_come_after_the_classes_checks() -> None:
    """As in vLLM, which sets them on the finished config."""
    config = {**QWEN3, "layer_types": ["full_attention"] * 32}
    found = describe(config, where="c", hf_overrides={"num_hidden_layers": 8})
    assert found.num_hidden_layers == 8
    with pytest.raises(ConfigError, match="lists 32 layers"):
        describe({**config, "num_hidden_layers": 8}, where="c")


@pytest.mark.parametrize(
    ("shared", "says"),
    [
        (42, "leaves layer 20 no earlier full_attention"),
        (60, "leaves layer 0 no earlier"),
        (61, "to 60, is 61"),
    ],
)
def test_shared_layers_need_an_earlier_one_of_their_type(shared: int, says: str) -> None:
    """Gemma 4: vLLM looks for the last own layer of the same type, and fails without one."""
    types = (["sliding_attention"] * 20 + ["full_attention"]) * 3
    text = {
        **{"model_type": "gemma4_text", "num_hidden_layers": 60, "layer_types": types[:60]},
        **{"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256},
        **{"hidden_size": 2048, "sliding_window": 512, "num_kv_shared_layers": shared},
    }
    text["layer_types"][-1] = "full_attention"
    config = {
        **{"architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4"},
        "text_config": text,
    }
    with pytest.raises(PlannerError, match=says):
        describe(config, where="config.json")


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"strategy": "odd_kind"}, "'odd_kind' is not a valid strategy"),
        ({"type": None}, "type must be int or float, is None"),
        ({"dynamic": None}, "dynamic must be true, false or local, is None"),
        ({"symmetric": None}, "symmetric must be true or false, is None"),
        ({"scale_dtype": "odd_kind"}, "scale_dtype must be null or a dtype of torch, is odd_kind"),
        ({"strategy": "group"}, "strategy group requires group_size to be above 0"),
        ({"strategy": "channel", "group_size": 128}, "requires strategy to be set to 'group'"),
        ({"strategy": "block"}, "strategy block and block_structure go together"),
        (
            {"strategy": "block", "block_structure": [128]},
            "must be a list of ints .rows, cols., is",
        ),
        (
            {"strategy": "block", "block_structure": "128x"},
            "must be a list of ints .rows, cols., is",
        ),
        ({"strategy": "token"}, "strategy token requires dynamic: true"),
    ],
)
def test_compressed_tensors_arguments(weights: JsonDict, says: str) -> None:
    quantization = tensors([])
    quantization["config_groups"]["group_0"]["weights"] = {"num_bits": 8, **weights}
    with pytest.raises(PlannerError, match=says):
        planned({**LLAMA, "quantization_config": quantization}, 20 << 30)


@pytest.mark.parametrize(
    ("scheme", "says"),
    [
        (None, "transform 'R1': must be an object"),
        ({"precision": None}, "precision must be a dtype, is None"),
        ({"randomize": None}, "randomize must be true or false"),
        ({"apply": [{"targets": "re:.*", "location": "input"}]}, "targets must be a list"),
        ({"apply": [{"location": "somewhere"}]}, "location must be one of input, weight_input"),
        ({"type": "hadamard", "head_dim": 128, "precision": "torch.float64"}, None),
    ],
)
def test_compressed_tensors_transforms(scheme: JsonDict | None, says: str | None) -> None:
    quantization = {**tensors([]), "transform_config": {"config_groups": {"R1": scheme}}}
    config = {**LLAMA, "quantization_config": quantization}
    if says is None:
        assert planned(config, 20 << 30)
        return
    with pytest.raises(PlannerError, match=says):
        planned(config, 20 << 30)


def test_blocks_of_no_size() -> None:
    quantization = {**fp8([]), "weight_block_size": [128, 0]}
    with pytest.raises(PlannerError, match="weight_block_size must hold two whole numbers above"):
        planned({**LLAMA, "quantization_config": quantization}, 20 << 30)
