"""Bundled models against their siblings, their names and the sizes their publishers state."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from fnmatch import fnmatch
from functools import cache
from typing import Any

import pytest

from vllm_kv_planner import UnsupportedError
from vllm_kv_planner.config import presets
from vllm_kv_planner.config.find import FoundConfig, find_config
from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.engine_args.setup import described, resolve_setup
from vllm_kv_planner.gpu.catalogue import find_gpu
from vllm_kv_planner.memory.weights import setup_weights
from vllm_kv_planner.model.defaults import defaults_for

NAMES = presets.known_names()

# Siblings: the same family, whatever the size, training or quantisation

SIZE_KEYS = re.compile(
    r"(?!.*token).*(size|heads|layers|head_dim|rank|expert|interval|layer_types|k_eq_v|ratio|topk"
    r"|bidirectional_attention)"
)
NO_SIZE = {"chunk_size_feed_forward", "pretraining_tp", "head_dim"}
NOT_FAMILY = re.compile(
    r"-(a?\d+(\.\d+)?[bmt]|e\db|\d{4}|int\d|it|pt|base|chat|instruct|thinking|hf|v?0\.\d"
    r"|(fp8|nvfp4|awq|gptq).*)(?=-|$)"
)
LACK = {
    # what transformers' class, or the architecture, makes of the others
    "google/gemma-4-26B-A4B-it": "layer_types",
    "google/gemma-4-31B-it": "layer_types moe_intermediate_size",
    "google/gemma-4-E2B-it": "moe_intermediate_size num_global_key_value_heads"
    " use_bidirectional_attention",  # causal over images, too
    "google/gemma-4-E4B-it": "moe_intermediate_size num_global_key_value_heads layer_types"
    " global_head_dim attention_k_eq_v use_bidirectional_attention",
    "zai-org/GLM-5.2": "layer_types",
    "zai-org/GLM-5.2-FP8": "layer_types",
    "zai-org/GLM-5.3": "layer_types",
    "zai-org/GLM-5.3-FP8": "layer_types",
    "TheBloke/Llama-2-7B-GPTQ": "num_key_value_heads",  # as many as query heads
    "llava-hf/llava-1.5-7b-hf": "num_key_value_heads",
    "deepseek-ai/DeepSeek-V4-Flash": "qk_nope_head_dim",  # head_dim less the rotary part
    "nvidia/DeepSeek-V4-Flash-NVFP4": "qk_nope_head_dim",
    "sgl-project/DeepSeek-V4-Flash-FP8": "qk_nope_head_dim",
    # what is not there, which others state as 0
    "moonshotai/Kimi-K2-Thinking": "num_nextn_predict_layers",
    "nvidia/Qwen3.6-27B-NVFP4": "mlp_only_layers",
    "Qwen/Qwen3-Coder-30B-A3B-Instruct": "shared_expert_intermediate_size",
    "Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8": "shared_expert_intermediate_size",
    "tiiuae/falcon-7b": "num_kv_heads",  # it has multi_query instead
    "tiiuae/falcon-7b-instruct": "num_kv_heads",
    # beside sliding_window, for other software: google/gemma-2-9b alone has it
    **{
        f"google/gemma-2-{rest}": "sliding_window_size"
        for rest in ("27b", "27b-it", "2b", "2b-it", "9b-it")
    },
}
"""Size keys that some sibling has and this one does not, each for the reason above it."""


def family(name: str) -> str:
    short = name.lower().partition("/")[2].removeprefix("meta-")
    while short != (shorter := NOT_FAMILY.sub("", short)):
        short = shorter
    return short


def size_keys(config: Mapping[str, Any]) -> set[str]:
    text = config.get("text_config") or config
    values = {**defaults_for(text.get("model_type", "")), **text}
    set_ones = {key for key, value in values.items() if value is not None}
    return {key for key in set_ones if SIZE_KEYS.fullmatch(key)} - NO_SIZE


def families() -> dict[tuple[str, str], dict[str, set[str]]]:
    found: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(dict)
    for name in NAMES:
        preset = presets.find_preset(name)
        assert preset is not None
        key = (family(name), preset.config["architectures"][0])
        found[key][name] = size_keys(preset.config)
    return found


def test_siblings_have_the_same_size_keys() -> None:
    many = [members for members in families().values() if len(members) > 1]
    assert len(many) > 70
    lacking = {}
    for members in many:
        keys = set.union(*members.values())
        for name, own in members.items():
            if keys - own:
                lacking[name] = sorted(keys - own)
    assert lacking == {name: sorted(keys.split()) for name, keys in LACK.items()}


# Weights stored in fewer bits, where the name says nothing of it

QUANTISED = (
    *("deepseek-ai/DeepSeek-R1*", "deepseek-ai/DeepSeek-V3*", "deepseek-ai/DeepSeek-V4*"),
    *("MiniMaxAI/MiniMax-M2*", "mistralai/Devstral-2-*", "mistralai/Ministral-3-*"),
    *("moonshotai/Kimi-K*", "openai/gpt-oss-*", "zai-org/GLM-5.3-Flash"),
)
WORDS = re.compile(
    r"fp8|fp4|awq|gptq|int[48]|bnb|w\d+a\d+|4bit|quant|mxfp|autoround|dynamic", re.IGNORECASE
)
PLAIN = ["DeepSeek-R1-Distill-*", "DeepSeek-R1-0528-Qwen3-8B", "Kimi-Linear-*"]
OWN_KEYS = ("quantization_config", "compression_config", "hf_quant_config")


def is_quantised(name: str) -> bool:
    preset = presets.find_preset(name)
    assert preset is not None
    text = preset.config.get("text_config") or {}
    return any(preset.config.get(key) or text.get(key) for key in OWN_KEYS)


def test_models_quantised_under_a_name_that_does_not_say_so() -> None:
    """A lost ``quantization_config`` doubles the weights, and no other check of a name sees it."""
    silent = [name for name in NAMES if not WORDS.search(name)]
    expected = {
        name
        for name in silent
        if any(fnmatch(name, each) for each in QUANTISED)
        and not any(fnmatch(name.partition("/")[2], each) for each in PLAIN)
    }
    assert {name for name in silent if is_quantised(name)} == expected
    assert len(expected) > 25


# Weights against the parameters that the name or the publisher states

NAMED_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bmt])(?![a-z0-9])", re.IGNORECASE)
BILLIONS = {"b": 1.0, "m": 1e-3, "t": 1e3}
STATED: dict[str, float] = {
    "dbrx": 132,  # the model card
    # billions of parameters in all, where a name says none, the active ones, or rounds much
    **{"AI21-Jamba-1.5-Large": 398, "AI21-Jamba-1.5-Mini": 52, "Jamba-v0.1": 52},
    **{"OLMoE-1B-7B-0924": 6.9, "Llama-4-Maverick-17B-128E": 400, "Llama-4-Scout-17B-16E": 109},
    **{"bge-large-en-v1.5": 0.335, "bge-m3": 0.568, "all-MiniLM-L6-v2": 0.0227},
    **{"gpt_bigcode-santacoder": 1.1, "starcoder": 15.5, "bloom": 176, "bloom-7b1": 7.1},
    **{"bloomz-7b1": 7.1, "c4ai-command-r-plus": 104, "c4ai-command-r-v01": 35},
    **{"DeepSeek-Coder-V2-Instruct": 236, "DeepSeek-Coder-V2-Lite": 15.7, "DeepSeek-R1": 671},
    **{"DeepSeek-R1-Distill-Qwen-1.5B": 1.78, "DeepSeek-R1-0528-Qwen3-8B": 8.2},
    **{"DeepSeek-R1-0528": 671, "DeepSeek-R1-Zero": 671, "DeepSeek-V2": 236},
    **{"DeepSeek-V2-Lite": 15.7, "DeepSeek-V2.5": 236, "DeepSeek-V3": 671},
    **{"DeepSeek-V4-Flash": 284, "DeepSeek-V4-Pro": 1600, "distil-large-v3": 0.756},
    **{"distilgpt2": 0.082, "gpt2": 0.124, "gpt2-medium": 0.355, "gpt2-large": 0.774},
    **{"gpt2-xl": 1.558, "gemma-2-2b": 2.61, "gemma-2b": 2.51, "gemma-3-4b": 4.3},
    **{"gemma-4-E2B": 5.1, "gemma-4-E4B": 8.0, "gemma-7b": 8.54, "Llama-3.2-1B": 1.24},
    **{"phi-1_5": 1.3, "phi-2": 2.7, "Phi-3-medium": 14, "Phi-3-mini": 3.8, "Phi-3.5-mini": 3.8},
    **{
        "Phi-3.5-vision": 4.2,
        "phi-4": 14.7,
        "Phi-4-reasoning": 14.7,
        "Phi-4-mini": 3.8,
        "MiniMax-M2": 229,
    },
    **{"MiniMax-M3": 428, "Devstral-Small-2505": 23.6, "Magistral-Small-2506": 23.6},
    **{"Mistral-Large": 123, "Mistral-Nemo": 12.2, "Mistral-Small-Instruct-2409": 22.2},
    **{"Ministral-3-3B": 3.8, "Mixtral-8x22B": 141, "Mixtral-8x7B": 46.7, "Kimi-K2": 1026},
    **{"Kimi-K3": 2780, "GLM-5-NVFP4": 744, "Nemotron-3-Nano": 31.6, "whisper-base": 0.074},
    **{"whisper-large": 1.55, "whisper-large-v3-turbo": 0.809, "whisper-medium": 0.769},
    **{"whisper-small": 0.244, "whisper-tiny": 0.039, "MiniCPM-MoE-8x2B": 13.9},
    **{"Qwen1.5-MoE-A2.7B": 14.3, "Qwen2-VL-7B": 8.29, "Qwen2.5-VL-3B": 3.75},
    **{"Qwen2.5-VL-7B": 8.29, "GLM-4.5": 355, "GLM-4.5-Air": 106, "GLM-4.6": 355},
    **{"GLM-4.7": 355, "GLM-5": 744, "dbrx": 132},
}
SIZE_UNKNOWN = {"arnir0/Tiny-LLM", "poolside/Laguna-XS.2-FP8", "zai-org/GLM-5.3-Flash"}
"""No source states how many parameters they have."""
WEIGHTS_UNKNOWN = {
    *("BaichuanForCausalLM", "BartModel", "BartForConditionalGeneration"),
    *("LlavaLlamaForCausalLM", "MllamaForConditionalGeneration"),
    *("Phi3SmallForCausalLM", "MptForCausalLM", "QWenLMHeadModel"),
}
"""Architectures without a rule for their weights."""


def stated_billions(name: str) -> float | None:
    if name in SIZE_UNKNOWN:
        return None
    short = name.partition("/")[2]
    match = NAMED_SIZE.search(short.replace("_", "."))
    begins = [known for known in STATED if short.startswith(known)]
    if match:  # a family's total is not that of a member which names its own
        begins = [known for known in begins if NAMED_SIZE.search(known)]
    if begins:
        return STATED[max(begins, key=len)]
    return float(match[1]) * BILLIONS[match[2].lower()] if match else None


def weight_bytes(found: FoundConfig, **flags: Any) -> int:
    args = EngineArgs(model=found.id, max_num_seqs=8, **flags)
    return max(setup_weights(resolve_setup(args, described(found, args), GPU)).num_bytes)


def without_quantization(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    return {
        key: without_quantization(value)
        for key, value in config.items()
        if key not in ("quantization_config", "compression_config")
    }


@cache
def parameters(config: str) -> float:
    found = FoundConfig("model", json.loads(config), "bundled")
    return weight_bytes(found, dtype="bfloat16") / 2


GPU = find_gpu("B200")


def sized(name: str) -> float:
    preset = presets.find_preset(name)
    assert preset is not None
    return parameters(json.dumps(without_quantization(preset.config)))


def architecture(name: str) -> str:
    preset = presets.find_preset(name)
    assert preset is not None
    return str(preset.config["architectures"][0])


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_that_are_stated(name: str) -> None:
    if architecture(name) in WEIGHTS_UNKNOWN:
        with pytest.raises(UnsupportedError):
            sized(name)
        return
    stated = stated_billions(name)
    assert (stated is None) == (name in SIZE_UNKNOWN)
    assert stated is None or sized(name) / 1e9 == pytest.approx(stated, rel=0.15)


# Bytes a parameter against the quantisation that the name says

FOUR_BITS = re.compile(r"nvfp4|awq|int4|gptq", re.IGNORECASE)
EIGHT_BITS = re.compile(r"fp8|int8", re.IGNORECASE)
OTHERWISE = {
    # as vLLM 0.33 itself counts it: the config names layers that its model class does not have
    "RedHatAI/DeepSeek-V4-Flash-NVFP4-FP8": "no layer is quantised",
    "meta-llama/Llama-3.1-405B-Instruct-FP8": "fbgemm_fp8 is refused",
    "Qwen/Qwen3-32B-FP8-Static-PerTensor": "no quant_method, refused",
}


@pytest.mark.parametrize("name", [n for n in NAMES if re.search("fp8|fp4|awq|gptq", n.lower())])
def test_quantised_weights_are_as_small_as_the_name_says(name: str) -> None:
    if "refused" in OTHERWISE.get(name, ""):
        with pytest.raises(ValueError, match=r"fbgemm_fp8|states a quantisation"):
            weight_bytes(find_config(name, offline=True))
        return
    bits = 8 * weight_bytes(find_config(name, offline=True)) / sized(name)
    if name in OTHERWISE:
        assert bits > 15
    elif FOUR_BITS.search(name.replace("Int8", "")) and "Int8" not in name:
        assert 4 <= bits < 7.5  # embeddings stay as they are: much, in a small model
    else:
        assert EIGHT_BITS.search(name)
        assert 8 <= bits < 10.5


CHECKPOINT_GB = {
    # of the files on the Hub, or of what a published start loaded; their names say nothing of bits
    "moonshotai/Kimi-K2-Thinking": 594,
    "moonshotai/Kimi-K2-Instruct": 1029,
    "deepseek-ai/DeepSeek-V3": 688,  # with its layer for further tokens
    "deepseek-ai/DeepSeek-V4-Flash": 160,
    "MiniMaxAI/MiniMax-M2": 230,
    "mistralai/Ministral-3-3B-Instruct-2512": 4.67,
    "mistralai/Devstral-2-123B-Instruct-2512": 128,
    "zai-org/GLM-5.3-Flash": 315,
    "openai/gpt-oss-120b": 65.2,
    "openai/gpt-oss-20b": 13.8,
    "google/gemma-4-31B-it": 62.6,
}


@pytest.mark.parametrize("name", CHECKPOINT_GB)
def test_weights_are_what_is_published(name: str) -> None:
    """A quantisation that the config lost would make them twice as large."""
    size = weight_bytes(find_config(name, offline=True)) / 1e9
    assert size == pytest.approx(CHECKPOINT_GB[name], rel=0.15)
