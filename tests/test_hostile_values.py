"""Configs whose values make no sense: refused in one clear line."""

from __future__ import annotations

import pytest

from tests.hostile_configs import LLAMA, JsonDict, awq, fp8, modelopt, planned, tensors
from vllm_kv_planner import PlannerError, plan
from vllm_kv_planner.config.find import FoundConfig, find_config
from vllm_kv_planner.config.found import named_quantization
from vllm_kv_planner.errors import ConfigError, UnsupportedError
from vllm_kv_planner.model.describe import describe

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a whole number from 1"),
        ({"num_key_value_heads": 0}, "num_key_value_heads must be a whole number from 1"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a whole number from 1"),
        ({"head_dim": 0}, "head_dim must be a whole number from 1"),
        ({"hidden_size": 0}, "hidden_size must be a whole number from 1"),
        ({"hidden_size": 3}, r"hidden_size \(3\) must be a multiple of num_attention_heads \(32\)"),
        ({"vocab_size": 0}, "vocab_size must be a whole number from 1"),
        ({"intermediate_size": -1}, "intermediate_size must be a whole number from 0"),
        ({"num_experts": -1}, "num_experts must be a whole number from 0"),
        ({"n_routed_experts": 10**9}, "n_routed_experts must be a whole number from 0 to 100,000"),
        ({"v_head_dim": {}}, "v_head_dim must be a whole number .*, is an object"),
        ({"index_topk": [1]}, "index_topk must be a whole number .*, is a list of 1"),
        ({"qk_rope_head_dim": []}, "qk_rope_head_dim must be a whole number"),
        ({"torch_dtype": "abc"}, 'torch_dtype must be a dtype .*, is "abc"'),
        ({"dtype": "torch.bf16"}, "dtype must be a dtype"),
        ({"dtype": "torch.float16"}, "dtype must be a dtype"),  # transformers: no such attribute
        ({"torch_dtype": "BFloat16"}, "torch_dtype must be a dtype"),
        ({"torch_dtype": "bf16"}, "torch_dtype must be a dtype"),
        ({"mamba_ssm_dtype": "x"}, "mamba_ssm_dtype must be one of"),
        ({"partial_rotary_factor": 1e30}, "partial_rotary_factor must be a number from 0 to 1"),
        ({"rope_scaling": "abc"}, "rope_scaling must be an object"),
        ({"rope_theta": "abc"}, "rope_theta must be a number"),
        ({"time_step_rank": 10**30}, "time_step_rank must be a whole number"),
        ({"mlp_only_layers": 5}, "mlp_only_layers must be a list"),
        ({"rope_scaling": {**YARN, "factor": 0}}, "rope_scaling.factor must be above 0"),
        ({"rope_scaling": {**YARN, "factor": -8}}, "rope_scaling.factor must be a number"),
        ({"rope_scaling": {**YARN, "factor": "8"}}, "rope_scaling.factor must be a number"),
        (
            {"rope_parameters": {**YARN, "original_max_position_embeddings": 0}},
            "rope_parameters.original_max_position_embeddings must be above 0 in YaRN",
        ),
        (
            {"rope_parameters": {"full_attention": {**YARN, "factor": 0}}},
            "rope_parameters.full_attention.factor must be above 0",
        ),
        (
            {"vision_config": {"patch_size": 10**9}},
            "vision_config.patch_size must be a whole number",
        ),
    ],
)
def test_nonsense_is_refused(change: JsonDict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        describe({**LLAMA, **change}, where="config.json")


def test_what_published_configs_do_hold() -> None:
    for change in (
        {"rope_scaling": YARN},
        {"dtype": "float8_e4m3fn"},  # vLLM falls back to the device's own
        {"torch_dtype": "float16", "rope_scaling": None, "head_dim": None},
    ):
        assert describe({**LLAMA, **change}, where="c").num_hidden_layers == 32


@pytest.mark.parametrize("quantization", [awq([]), fp8([]), tensors([]), modelopt([])])
def test_layer_names_are_a_list(quantization: JsonDict) -> None:
    for key in ("ignore", "ignored_layers", "exclude_modules", "modules_to_not_convert"):
        config = {**LLAMA, "quantization_config": {**quantization, key: 7}}
        with pytest.raises(PlannerError, match=f"{key} must be a list of layer names"):
            planned(config, 40 << 30)


# A quantisation that only the name states


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nvidia/Qwen3-30B-A3B-NVFP4", "NVFP4"),
        ("someone/thing-fp8", "FP8"),
        ("x/y-GPTQ-Int4", "GPTQ"),
        ("x/y-quantized.w4a16", "W4A16"),
        ("/models/Llama-AWQ/config.json", "AWQ"),
        ("fp8/plain-model", None),
        ("x/fp8x-8b", None),
        ("meta-llama/Llama-3.1-8B", None),
    ],
)
def test_what_a_name_says(name: str, says: str | None) -> None:
    assert named_quantization(name, LLAMA) == says
    stated = {**LLAMA, "quantization_config": {"quant_method": "fp8"}}
    assert named_quantization(name, stated) is None
    assert named_quantization(name, {"text_config": stated}) is None


def test_unstated_quantisation_is_told_and_not_predicted() -> None:
    known = find_config("nvidia/Qwen3-30B-A3B-NVFP4", offline=True)
    found = FoundConfig(known.id, known.config, "local")  # without hf_quant_config.json
    given = plan(found, gpu="H100", planner="standalone", kv_cache_memory_bytes=20 << 30)
    assert any("name says NVFP4" in note and "bfloat16" in note for note in given.notes)
    with pytest.raises(UnsupportedError, match=r"hf_quant_config\.json.*--kv-cache-memory-bytes"):
        plan(found, gpu="H100", planner="standalone")


def test_modelopt_without_a_method_loads_unquantised() -> None:
    # producer without "quantization": vLLM's quant_method stays empty, which means none
    found = find_config("Qwen/Qwen3-32B-FP8-Static-PerTensor", offline=True)
    given = plan(found, gpu="H100", planner="standalone", kv_cache_memory_bytes=20 << 30)
    assert given.engine.quantization is None
    assert any("states no quant_method" in note for note in given.notes)
