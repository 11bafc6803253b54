"""Configs and quantisation configs to be spoilt by tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm_kv_planner import plan
from vllm_kv_planner.config.find import FoundConfig

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
DEEP = {**LLAMA, "num_hidden_layers": 1_000}


def planned(config: Mapping[str, Any], memory: int | None = None, name: str = "a/b") -> Any:
    found = FoundConfig(id=name, config=config, source="bundled")
    given = {} if memory is None else {"kv_cache_memory_bytes": memory}
    return plan(found, gpu="H100", planner="standalone", **given)


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
