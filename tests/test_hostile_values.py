"""Configs whose values make no sense, or cost far too much: one clear line, soon."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from vllm_kv_planner import PlannerError, plan
from vllm_kv_planner.errors import ConfigError, UnsupportedError
from vllm_kv_planner.memory.weights.quantization.names import Parts, SkippedLayers, Targets
from vllm_kv_planner.memory.weights.quantization.patterns import Patterns
from vllm_kv_planner.memory.weights.quantization.whole_numbers import Packed
from vllm_kv_planner.model.describe import describe
from vllm_kv_planner.model.find import FoundConfig, find_config
from vllm_kv_planner.model.named_quantization import named_quantization

JsonDict = dict[str, Any]

LLAMA: JsonDict = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}
MOE: JsonDict = {
    **LLAMA,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "num_hidden_layers": 48,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
}
DEEP = {**LLAMA, "num_hidden_layers": 10_000}


def planned(config: Mapping[str, Any], memory: int | None = None, name: str = "a/b") -> Any:
    found = FoundConfig(id=name, config=config, source="bundled")
    given = {} if memory is None else {"kv_cache_memory_bytes": memory}
    return plan(found, gpu="H100", planner="standalone", **given)


# Patterns


def tensors(ignore: list[str], targets: list[str] | None = None, groups: int = 1) -> JsonDict:
    group = {
        "targets": targets or ["Linear"],
        "weights": {"num_bits": 8, "type": "float", "strategy": "tensor"},
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "ignore": ignore,
        "config_groups": {f"group_{index}": group for index in range(groups)},
    }


def gptq(rules: list[str]) -> JsonDict:
    plain = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
    return {**plain, "dynamic": {rule: {} for rule in rules}}


def awq(names: list[str]) -> JsonDict:
    plain = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
    return {**plain, "modules_to_not_convert": names}


def modelopt(names: list[str], **more: Any) -> JsonDict:
    return {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": names, **more}


def fp8(names: list[str]) -> JsonDict:
    return {"quant_method": "fp8", "activation_scheme": "dynamic", "ignored_layers": names}


NESTED = ["re:(a+)+$", "re:(.*)*x", "re:((.*a)*)*b", "re:(.*.*)*z", "re:(a|a)*b", "re:([^z]*)+z"]
EXPENSIVE: dict[str, Callable[[], tuple[JsonDict, JsonDict]]] = {
    **{
        f"ignore {pattern}": lambda pattern=pattern: (LLAMA, tensors([pattern]))
        for pattern in NESTED
    },
    "targets nested": lambda: (LLAMA, tensors([], [NESTED[3]])),
    "many repeats": lambda: (LLAMA, tensors(["re:" + ".*e" * 9 + "z"])),
    "many options": lambda: (LLAMA, tensors(["re:" + "m?" * 60 + "z"])),
    "counted": lambda: (LLAMA, tensors([r"re:(.{1,60}){1,60}z"])),
    "back reference": lambda: (LLAMA, tensors([r"re:(.*)\1\1\1z"])),
    "long": lambda: (LLAMA, tensors(["re:" + "a" * 5000])),
    "100,000 patterns": lambda: (LLAMA, tensors([f"re:.*{i}$" for i in range(100_000)])),
    "512 patterns": lambda: (DEEP, tensors([rf"re:.*\w.*\w.*{i}z" for i in range(512)])),
    "512 shapes": lambda: (DEEP, tensors([rf"re:.*\w.*\w.*{'z' * (i % 99)}" for i in range(512)])),
    "groups": lambda: (LLAMA, tensors([], [f"a{i}" for i in range(100)], groups=4000)),
    "200,000 names": lambda: (LLAMA, tensors([f"model.layers.{i}.x" for i in range(200_000)])),
    "dynamic": lambda: (LLAMA, gptq(["-:(a+)+$", "-:(.*)*(.*)*x$"])),
    "many dynamic": lambda: (LLAMA, gptq([f"-:.*{i}x" for i in range(100_000)])),
    "AWQ names": lambda: (MOE, awq([f"a{i}" for i in range(150_000)])),
    "AWQ names of a layer": lambda: (MOE, awq([f"layers.1.{i}" for i in range(150_000)])),
    "FP8 experts": lambda: (MOE, fp8([f"experts.{i}" for i in range(150_000)])),
    "FP8 experts of a layer": lambda: (
        MOE,
        fp8([f"model.layers.1.experts.{i}" for i in range(150_000)]),
    ),
    "wildcards": lambda: (LLAMA, modelopt(["*" * 190 + "z", "*a" * 90 + "*b"] * 50)),
    "many wildcards": lambda: (
        LLAMA,
        modelopt([f"model.layers.{i % 32}.*{i}*a*b" for i in range(100_000)]),
    ),
    "long names": lambda: (
        LLAMA,
        modelopt([], quant_algo="MIXED_PRECISION", quantized_layers={"a." * 500_000: {}}),
    ),
    "deep names": lambda: (
        LLAMA,
        modelopt(
            [],
            quant_algo="MIXED_PRECISION",
            quantized_layers={f"{i}." + "a." * 30: {} for i in range(100_000)},
        ),
    ),
}


@pytest.mark.parametrize("name", EXPENSIVE)
def test_quantization_costs_little(name: str) -> None:
    config, quantization = EXPENSIVE[name]()
    config = {**config, "quantization_config": quantization}
    for memory in (None, 40 << 30):
        start = time.process_time()
        try:
            planned(config, memory)
        except PlannerError as error:
            assert len(str(error)) < 500
            assert str(error).isprintable()
        assert time.process_time() - start < 1.5  # a second here; runners are slower


@pytest.mark.parametrize("pattern", [each.removeprefix("re:") for each in NESTED])
def test_nested_repeats_are_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedError, match="may take far too long"):
        Patterns([pattern])


@pytest.mark.parametrize(
    ("pattern", "name", "index"),
    [
        (r".*self_attn.*", "model.layers.0.self_attn.q_proj", 0),
        (r".*mlp\.(gate|up|gate_up|down)_proj.*", "model.layers.3.mlp.up_proj", 0),
        (r".*attn.*(fused_wqa_wkv|wq_b|wo_a|wo_b)$", "layers.7.attn.wo_b", 0),
        (r"model\.layers\.[0-9]+\.mlp\.gate$", "model.layers.12.mlp.gate", 0),
        (r"(?:model\.)?layers\.(0|1|61)\..*", "model.layers.61.mlp.gate", 0),
        (r"(?:model\.)?layers\.(0|1|61)\..*", "model.layers.6.mlp.gate", None),
        (r"^(?!.*(?:q_proj|k_proj)).*$", "model.layers.6.q_proj", None),
        (r".*\[a[(]\]x", "b[a(]x", 0),
    ],
)
def test_published_shapes_of_patterns(pattern: str, name: str, index: int | None) -> None:
    assert Patterns([pattern]).first(name) == index
    assert (name in Targets(["re:" + pattern])) is (index == 0)


def test_names_in_great_number_are_no_patterns() -> None:
    names = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(20_000) for p in "qkv"]
    targets = Targets(names)
    assert "model.layers.19999.self_attn.qkv_proj" in targets
    assert "model.layers.20000.self_attn.qkv_proj" not in targets
    experts = SkippedLayers(f"model.layers.{i}.mlp.experts.0.up_proj" for i in range(60_000))
    assert "model.layers.59999.mlp.experts" in experts
    assert "model.layers.60000.mlp.experts" not in experts


def test_parts_of_names() -> None:
    parts = Parts(["visual", "layers.3.mlp", "model.layers.4.*"], has_wildcards=True)
    assert parts.match("visual.blocks.0.attn.qkv")
    assert parts.match("model.layers.3.mlp.gate_up_proj")
    assert not parts.match("model.layers.13.mlp.gate_up_proj")
    assert parts.match("model.layers.4.mlp.down_proj")
    assert not Parts(["model.layers.4.*"]).match("model.layers.4.mlp.down_proj")


def test_dynamic_rules_in_order() -> None:
    # ``get_dynamic_override``: the first rule that matches decides
    rules = [r"+:.*\.0\.mlp.*", r"-:.*mlp.*", r"-:.*o_proj"]
    packed = Packed(gptq(rules), is_composite=False)
    assert packed.linear("model.layers.0.mlp.down_proj") is not None
    assert packed.linear("model.layers.1.mlp.down_proj") is None
    assert packed.linear("model.layers.1.self_attn.o_proj") is None
    assert packed.linear("model.layers.1.self_attn.qkv_proj") is not None


# Values

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a whole number from 1"),
        ({"num_key_value_heads": 0}, "num_key_value_heads must be a whole number from 1"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a whole number from 1"),
        ({"head_dim": 0}, "head_dim must be a whole number from 1"),
        ({"hidden_size": 0}, "hidden_size must be a whole number from 1"),
        ({"hidden_size": 3}, "hidden_size and head counts make attention with .* width 0"),
        ({"vocab_size": 0}, "vocab_size must be a whole number from 1"),
        ({"intermediate_size": 0}, "intermediate_size must be a whole number from 1"),
        ({"num_experts": -1}, "num_experts must be a whole number from 0"),
        ({"n_routed_experts": 10**9}, "n_routed_experts must be a whole number from 0 to 100,000"),
        ({"v_head_dim": {}}, "v_head_dim must be a whole number .*, is an object"),
        ({"index_topk": [1]}, "index_topk must be a whole number .*, is a list of 1"),
        ({"qk_rope_head_dim": []}, "qk_rope_head_dim must be a whole number"),
        ({"torch_dtype": "abc"}, 'torch_dtype must be a dtype .*, is "abc"'),
        ({"dtype": "torch.bf16"}, "dtype must be a dtype"),
        ({"mamba_ssm_dtype": "x"}, "mamba_ssm_dtype must be one of"),
        ({"partial_rotary_factor": 1e30}, "partial_rotary_factor must be a number from 0 to 1"),
        ({"rope_scaling": {**YARN, "factor": 0}}, "rope_scaling.factor must be above 0"),
        ({"rope_scaling": {**YARN, "factor": -8}}, "rope_scaling.factor must be a number"),
        ({"rope_scaling": {**YARN, "factor": "8"}}, "rope_scaling.factor must be a number"),
        (
            {"rope_parameters": {**YARN, "original_max_position_embeddings": 0}},
            "rope_parameters.original_max_position_embeddings must be a whole number from 1",
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
        {"torch_dtype": "torch.float16", "rope_scaling": None, "head_dim": None},
    ):
        assert describe({**LLAMA, **change}, where="c").num_hidden_layers == 32


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
    found = find_config("nvidia/Qwen3-30B-A3B-NVFP4", offline=True)
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
