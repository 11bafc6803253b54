"""Single values that vLLM's own classes do not take: words, null, no experts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contradictions import known_kind
from tests.hostile_configs import LLAMA, JsonDict, planned
from vllm_kv_planner.config.presets import find_preset
from vllm_kv_planner.errors import ConfigError, PlannerError
from vllm_kv_planner.model.architectures.registry import table
from vllm_kv_planner.model.describe import describe

RULES = Path(__file__).parents[1] / "vllm_kv_planner/model/architectures/value_rules.json"


def changed(base: str | JsonDict, changes: dict[str, Any]) -> JsonDict:
    """A copy with values at dotted places."""
    if isinstance(base, str):
        found = find_preset(base)
        assert found is not None
        base = dict(found.config)
    config: JsonDict = json.loads(json.dumps(base))
    for place, value in changes.items():
        *parts, last = place.split(".")
        holder = config
        for part in parts:
            holder = holder[part]
        holder[last] = value
    return config


K2 = "moonshotai/Kimi-K2-Instruct"
V3 = "deepseek-ai/DeepSeek-V3"
QWEN3_NEXT = "Qwen/Qwen3-Next-80B-A3B-Instruct"
V4 = "deepseek-ai/DeepSeek-V4-Flash"
K3 = "moonshotai/Kimi-K3"
LLAVA = "llava-hf/llava-v1.6-mistral-7b-hf"
MIXED = "nvidia/Qwen3.6-27B-NVFP4"
MAMBA2 = "mistralai/Mamba-Codestral-7B-v0.1"
VL_AWQ = "Qwen/Qwen2.5-VL-7B-Instruct-AWQ"
MISTRAL3 = "mistralai/Mistral-Small-3.1-24B-Instruct-2503"
FP8_LLAMA = "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic"
GLM_MOE = "zai-org/GLM-4.6"
JAMBA = "ai21labs/Jamba-v0.1"
LLAMA4 = "RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic"
M2 = "MiniMaxAI/MiniMax-M2"
MINISTRAL = "mistralai/Ministral-3-3B-Instruct-2512"
LLAMA3_1 = "meta-llama/Llama-3.1-8B-Instruct"
MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"
GEMMA_3N = {
    "architectures": ["Gemma3nForConditionalGeneration"],
    "model_type": "gemma3n",
    "text_config": {"model_type": "gemma3n_text", "intermediate_size": [16384] * 35},
}
APERTUS = {
    **LLAMA,
    "architectures": ["ApertusForCausalLM"],
    "model_type": "apertus",
    "hidden_act": "xielu",
}
OWN_CLASS = {**LLAMA, "architectures": ["OrionForCausalLM"], "model_type": "orion"}
LAGUNA = {**LLAMA, "architectures": ["LagunaForCausalLM"], "model_type": "laguna"}


@pytest.mark.parametrize(
    ("base", "changes", "says"),
    [
        (LLAMA, {"hidden_act": "relu"}, 'hidden_act must be silu, is "relu"'),
        (APERTUS, {"hidden_act": "silu"}, 'hidden_act must be xielu, is "silu"'),
        (LLAMA, {"hidden_act": None}, "hidden_act must be str in a llama config, is null"),
        ("openai-community/gpt2", {"activation_function": "odd"}, "must be gelu or gelu_fast or"),
        ("google/gemma-2-9b-it", {"hidden_activation": "gelu"}, "must be gelu_pytorch_tanh"),
        ("google/gemma-3-4b-it", {"text_config.hidden_activation": "relu"}, "gelu_pytorch_tanh or"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", {"vision_config.hidden_act": "relu"}, "or swigluoai, is"),
        (K2, {"scoring_func": "odd"}, "scoring_func must be sigmoid or softmax or sqrtsoftplus"),
        (V3, {"n_group": None}, "n_group must be a number and from 0 on, is null"),
        (V3, {"topk_group": None}, "topk_group must be a number and from 0 on, is null"),
        (MIXTRAL, {"num_local_experts": 0}, "num_experts counts no experts, and the model"),
        (QWEN3_NEXT, {"num_experts": 0}, "num_experts counts no experts"),
        (OWN_CLASS, {"rope_scaling": {"type": "llama3", "factor": 8.0}}, "low_freq_factor is not"),
        (V3, {"rope_scaling.mscale": None}, "rope_scaling.mscale must be a number, is null"),
        (V3, {"rope_scaling.beta_fast": -1}, "beta_fast must be a number above 0 in YaRN, is -1"),
        (V3, {"rope_scaling.original_max_position_embeddings": None}, "must be above 0 in YaRN"),
        (V4, {"head_dim": 256}, "head_dim must be 128 or 512"),
        ("MiniMaxAI/MiniMax-M3", {"projector_hidden_size": -1}, "must be from 0 on, as the width"),
        ("ibm-granite/granite-3.3-8b-instruct-FP8", {"logits_scaling": 0}, "a number and above 0"),
        (JAMBA, {"mamba_dt_rank": -1}, "mamba_dt_rank must be from 0 on, as the width of a weight"),
        (LLAMA4, {"text_config.interleave_moe_layer_step": 0}, "must be a number and from 1 on"),
        (
            "moonshotai/Kimi-K2.5",
            {"vision_config.vt_num_hidden_layers": 1_000_003},
            "vt_num_hidden_layers must be at most 1,000",
        ),
        (V4, {"o_groups": 0}, "o_groups must be a number and from 1 on, is 0"),
        (GLM_MOE, {"first_k_dense_replace": 1000}, "a number and below num_hidden_layers, is 1000"),
        (
            K3,
            {"text_config.linear_attn_config.gate_lower_bound": 0},
            "from -5 on and below 0, is 0",
        ),
        (
            "poolside/Laguna-XS.2-FP8",
            {"num_attention_heads_per_layer": [8, 8]},
            "per_layer lists 2 items, num_hidden_layers is",
        ),
        (
            "moonshotai/Kimi-K2.5",
            {"vision_config.merge_kernel_size": [2]},
            "merge_kernel_size must be a list of 2 items",
        ),
        (
            MINISTRAL,
            {"model_type": "mistral3", "text_config.rope_parameters.rope_theta": 0},
            "rope_theta must be a number o",
        ),
        (LLAMA3_1, {"rope_scaling.low_freq_factor": 0}, "low_freq_factor must be above 0"),
        (LLAMA3_1, {"rope_scaling.rope_type": None}, 'rope_type must be one of .*, is "null"'),
        (V4, {"rope_scaling.rope_type": None}, r"rope_type \(null\) and type \(yarn\) contradict"),
        (V4, {"hc_mult": -1}, "hc_mult must be a whole number from 0"),
        (K3, {"vision_config.pos_emb_type": "odd"}, 'pos_emb_type must be divided_fixed, is "odd"'),
        (K3, {"vision_config.init_pos_emb_width": None}, "init_pos_emb_width must be a number"),
        (K3, {"vision_config.mm_hidden_size": -1}, "mm_hidden_size must be from 0 on"),
        (K3, {"text_config.moe_router_activation_func": "odd"}, "must be sigmoid or softmax"),
        (LLAVA, {"projector_hidden_act": "odd"}, "projector_hidden_act must be gelu or"),
        (LLAVA, {"vision_feature_select_strategy": None}, "must be default or full, is null"),
        (MAMBA2, {"num_heads": 7}, r"expand x hidden_size \(\d+\) and num_heads x head_dim"),
        (QWEN3_NEXT, {"rope_theta": None}, "rope_theta must be a number, is null"),
        ("google/gemma-2-9b-it", {"query_pre_attn_scalar": -1}, "must be a number and above 0, is"),
        (V4, {"compress_rope_theta": 0}, "compress_rope_theta must be a number and above 0, is 0"),
        (MISTRAL3, {"vision_config.rope_theta": None}, "rope_theta must be a number, is null"),
        (M2, {"rotary_dim": None}, "rotary_dim must be a number and from 1 on, is null"),
        (OWN_CLASS, {"rope_scaling": {"type": "odd_kind"}}, "rope_type must be one of"),
        (
            "openai/gpt-oss-20b",
            {"rope_scaling.beta_fast": None},
            "beta_fast is not given, gpt_oss models need it",
        ),
        (LAGUNA, {"rope_parameters": {"rope_type": "default"}}, "rope_theta is not given, laguna"),
        (
            "microsoft/Phi-3.5-vision-instruct",
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            "rope_type must be default or longrope in phi3_v",
        ),
        (
            "Qwen/Qwen2-VL-7B-Instruct",
            {"vision_config.num_heads": 7},
            r"embed_dim \(1280\) must be a multiple of num_heads \(7\)",
        ),
    ],
)
def test_refused(base: str | JsonDict, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        describe(changed(base, changes), where="config.json")
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        ("google/gemma-3-4b-it", {"text_config.hidden_activation": "silu"}),
        ("openai-community/gpt2", {"activation_function": "relu"}),
        (V3, {"scoring_func": "odd"}),  # groups are chosen by another router, which minds later
        ("Qwen/Qwen3-30B-A3B", {"hidden_act": "odd"}),  # no layer but experts, which do not read it
        ("openai/gpt-oss-20b", {"num_local_experts": 0}),
        (GEMMA_3N, {}),  # as published: a width for every layer
        (APERTUS, {}),  # its own activation, though its layers are Llama's
    ],
)
def test_accepted(base: str | JsonDict, changes: dict[str, Any]) -> None:
    assert describe(changed(base, changes), where="config.json").layers


def test_rules_name_what_there_is() -> None:
    """Architectures of the tables; words in lists that exist."""
    found = json.loads(RULES.read_text(encoding="utf-8"))
    known = {*table(), *(str(row.get("rule")) for row in table().values())}
    for rule in found["rules"]:
        names = {name for name in rule["of"].split() if name[0].isupper() or ":" in name}
        assert names <= known
        words = rule.get("words")
        assert not isinstance(words, str) or words in found["lists"]


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        (QWEN3_NEXT, {"linear_conv_kernel_dim": 0}),
        ("state-spaces/mamba-130m-hf", {"conv_kernel": 0}),
        (LLAMA, {"intermediate_size": 0}),
    ],
)
def test_zeros_that_vllm_takes(base: str | JsonDict, changes: dict[str, Any]) -> None:
    assert describe(changed(base, changes), where="config.json").layers


def group(weights: JsonDict, **more: Any) -> JsonDict:
    """A llama of one compressed-tensors group."""
    own = {"targets": ["Linear"], "weights": weights, "input_activations": None, **more}
    quantized = {"quant_method": "compressed-tensors", "config_groups": {"group_0": own}}
    return {**LLAMA, "quantization_config": {**quantized, "format": own.pop("format", None)}}


INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}
FP8 = {"num_bits": 8, "type": "float", "strategy": "channel"}
LOCAL = {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 16, "dynamic": "local"}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (group(INT4, format="odd_kind"), "No compressed-tensors compatible scheme was found"),
        (group({**INT4, "num_bits": 16}, format="pack-quantized"), "weights of 16 bits, type int"),
        (group({**FP8, "num_bits": 16}, format="float-quantized"), r"num_bits in \(8\) are supp"),
        (group(FP8, format="float-quantized", input_activations=LOCAL), "local is only supported"),
        (group(FP8, format="pack-quantized", input_activations={**FP8}), "No compressed-tensors"),
    ],
)
def test_compressed_tensors_without_a_scheme(config: JsonDict, says: str) -> None:
    with pytest.raises(PlannerError, match=says):
        planned(config, 20 << 30)


def test_compressed_tensors_with_a_scheme() -> None:
    for config in (group(INT4, format="pack-quantized"), group(FP8, format="float-quantized")):
        assert planned(config, 20 << 30).fits


@pytest.mark.parametrize(
    ("base", "change", "says"),
    [
        ("nvidia/MiniMax-M2.7-NVFP4", {"ignore": None}, "ignore must be a list of layer names"),
        (FP8_LLAMA, {"ignore": None}, "ignore must be a list of layer names"),
        (VL_AWQ, {"modules_to_not_convert": []}, "The input size is not aligned"),
        (MIXED, {"quantized_layers": {"lm_head": {"quant_algo": None}}}, "lm_head.quant_algo must"),
    ],
)
def test_quantisation_blocks(base: str, change: dict[str, Any], says: str) -> None:
    places = {f"quantization_config.{key}": value for key, value in change.items()}
    with pytest.raises(PlannerError, match=says):
        planned(changed(base, places))


def test_refusals_that_vllm_does_not_share_have_names() -> None:
    for changes, kind in (
        ({"num_hidden_layers": 0}, "no layers"),
        ({"sliding_window": -1}, "a negative number"),
        ({"rope_theta": -1.0}, "a negative number"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "a RoPE factor of 0"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2e9}}, None),
        ({"num_hidden_layers": 1001}, "more than any model has"),
        ({"hidden_act": "relu"}, None),
    ):
        with pytest.raises(PlannerError) as refusal:
            planned(changed(LLAMA, changes))
        assert known_kind(f"refused: {refusal.value}") == kind
