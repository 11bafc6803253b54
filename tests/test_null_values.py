"""null where a class or vLLM's code needs a value: refused as vLLM 0.33 refuses it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.hostile_configs import JsonDict, planned
from vllm_kv_planner import plan
from vllm_kv_planner.config.presets import find_preset
from vllm_kv_planner.errors import PlannerError

GEMMA4 = "google/gemma-4-26B-A4B-it"
UNIFIED = "google/gemma-4-12B-it"
M3 = "nvidia/MiniMax-M3-NVFP4"
V32 = "deepseek-ai/DeepSeek-V3.2"
K3 = "moonshotai/Kimi-K3"
K25 = "moonshotai/Kimi-K2.5"
DBRX = "databricks/dbrx-instruct"
SPARSE = "text_config.sparse_attention_config"


def changed(name: str, place: str, value: Any) -> JsonDict:
    found = find_preset(name)
    assert found is not None, name
    config: JsonDict = json.loads(json.dumps(found.config))
    *parts, last = place.split(".")
    holder = config
    for part in parts:
        holder = holder[part]
    holder[last] = value
    return config


@pytest.mark.parametrize(
    ("name", "place", "says"),
    [
        (K25, "vision_config.merge_kernel_size", "must be list in a kimi_k25_vision config"),
        (K25, "text_config.first_k_dense_replace", "must be a number, is null"),
        (K25, "vision_config.video_attn_type", "must be spatial_temporal, is null"),
        (K3, "vision_config.merge_kernel_size", "must be a list of 2 items, is null"),
        (K3, "vision_config.vt_hidden_size", "must be a number and from 1 on, is null"),
        (K3, "text_config.is_encoder_decoder", "must be true or false, is null"),
        (K3, "text_config.linear_attn_config.full_attn_layers", "must be a list, is null"),
        (DBRX, "ffn_config.moe_top_k", "must be int in a dbrxffnconfig config, is null"),
        (DBRX, "n_layers", "num_hidden_layers must be a whole number, is null"),
        (DBRX, "attn_config.rope_theta", "must be a number and from 1 on, is null"),
        (DBRX, "max_seq_len", "must be a number and from 1 on, is null"),
        ("XiaomiMiMo/MiMo-7B-Base", "use_sliding_window", "must be bool in a qwen2 config"),
        (UNIFIED, "vision_config.mm_embed_dim", "in a gemma4_unified_vision config, is null"),
        (UNIFIED, "vision_config.model_patch_size", "must be a number and from 1 on, is null"),
        (GEMMA4, "text_config.moe_intermediate_size", "must be a number, is null"),
        (M3, f"{SPARSE}.sparse_num_index_heads", "must be a number and from 1 on, is null"),
        (M3, "text_config.head_dim", "must be a number, is null"),
        (M3, "text_config.swiglu_alpha", "must be a number, is null"),
        ("Qwen/Qwen3.5-27B", "text_config.output_gate_type", "must be silu or swish or sigmoid"),
        (V32, "q_lora_rank", "must be a number and from 1 on, is null"),
        ("deepseek-ai/DeepSeek-V4-Flash", "expert_dtype", "must be fp4 or fp8, is null"),
        ("openai/whisper-tiny", "is_encoder_decoder", "must be bool in a whisper config, is null"),
        ("google/gemma-3-4b-it", "text_config.rope_local_base_freq", "above 0, is null"),
        ("google/gemma-3-4b-it", "text_config.sliding_window_pattern", "whole number, is null"),
        ("mistralai/Ministral-3-3B-Instruct-2512", "text_config.rope_parameters.type", "(null)"),
        (
            "meta-llama/Llama-3.1-8B-Instruct",
            "rope_scaling.original_max_position_embeddings",
            "must be a whole number, is null",
        ),
    ],
)
def test_null_is_refused(name: str, place: str, says: str) -> None:
    with pytest.raises(PlannerError) as error:
        planned(changed(name, place, None))
    assert says in str(error.value)


def test_no_experts_are_no_null() -> None:
    with pytest.raises(PlannerError, match="num_experts must be a number and from 1 on, is 0"):
        planned(changed(UNIFIED, "text_config.num_experts", 0))
    assert planned(changed(UNIFIED, "text_config.num_experts", None))


def test_objects_that_a_class_leaves_as_they_are() -> None:
    assert planned(changed(M3, "vision_config.projection_dim", None))  # no class of CLIP's there


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (f"{SPARSE}.sparse_num_index_heads", 3, "must be num_key_value_heads's, 4, is 3"),
        ("text_config.intermediate_size", 3071, "a multiple of 32, is 3071"),  # MXFP8's blocks
        ("text_config.dense_intermediate_size", -1, "must be from 0 on, as the width"),
    ],
)
def test_widths_of_minimax_m3(place: str, value: int, says: str) -> None:
    with pytest.raises(PlannerError) as error:
        planned(changed(M3, place, value))
    assert says in str(error.value)


def test_a_dtype_of_experts_is_read_beside_fp8_only() -> None:
    name = "RedHatAI/DeepSeek-V4-Flash-NVFP4-FP8"
    assert planned(changed(name, "expert_dtype", None))


def test_null_for_causal_is_no() -> None:
    found = planned(changed("Qwen/Qwen2.5-7B-Instruct", "is_causal", None))
    assert found.kv_cache.bytes_per_block == 0


def test_another_config_is_not_passed_over() -> None:
    with pytest.raises(PlannerError, match=r"--hf-config-path .*: not read; name that folder"):
        plan("gpt2", planner="standalone", hf_config_path="some/folder")
