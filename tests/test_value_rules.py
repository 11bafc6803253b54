"""Single values that vLLM's own classes do not take: words, null, no experts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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
MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"
OWN_CLASS = {**LLAMA, "architectures": ["OrionForCausalLM"], "model_type": "orion"}
LAGUNA = {**LLAMA, "architectures": ["LagunaForCausalLM"], "model_type": "laguna"}


@pytest.mark.parametrize(
    ("base", "changes", "says"),
    [
        (LLAMA, {"hidden_act": "relu"}, 'hidden_act must be silu, is "relu"'),
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
