"""Values no model has, refused before anything is planned with them.

vLLM and transformers fail on these later, or not at all; a plan of zero bytes helps nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .architectures.general import LATENT_TYPES
from .config import Config
from .layers.attention import Attention
from .layers.base import CacheLayer

_AT_LEAST_ONE = (
    *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"),
    *("num_attention_heads", "n_head", "n_heads", "num_heads"),
    *("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num"),
    *("hidden_size", "n_embd", "d_model", "ffn_hidden_size"),
    *("vocab_size", "kv_lora_rank", "index_kpool", "index_head_dim"),
)
_NOT_NEGATIVE = (
    *("v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "num_nextn_predict_layers"),
    *("first_k_dense_replace", "index_topk", "hc_mult"),
)
_NOT_NEGATIVE_OR_LISTED = (
    *("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size"),
    "num_experts_per_tok",
)
_EXPERTS = (
    *("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"),
    *("n_shared_experts", "num_shared_experts"),
)
_WIDTHS = ("_size", "_size_mlp", "_dim", "_rank", "_embeddings", "_width", "_height", "_channels")
"""How keys end that name widths of weights: torch makes none of a negative width."""
_MAY_BE_NEGATIVE = ("window", "chunk", "pad")
"""In keys of sizes that are no weight's: -1 is none there."""
_SHARES = ("partial_rotary_factor", "rotary_pct", "rotary_emb_fraction")
_WITH_EXPERTS = frozenset(
    [
        *("qwen3_moe", "qwen3_vl_moe_text", "deepseek_v2", "deepseek_v3", "kimi_k2"),
        *("glm4_moe", "llama4_text", "minimax_m2", "nemotron_h"),
    ]
)
"""Types whose classes make sparse layers whatever the number of experts: vLLM fails at 0."""
_EVERY_NTH = ("decoder_sparse_step", "moe_layer_freq")
"""Layers are counted off by these, so they are never 0; some configs list layers instead."""
_DTYPES = frozenset(
    [
        *("float32", "float16", "bfloat16", "float64", "float", "half", "double", "auto"),
        *("int8", "uint8"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
    ]
)
_STATE_DTYPES = frozenset(["auto", "float32", "float16", "bfloat16", "half", "float"])
_HEAD_DIM_OF_ZERO = LATENT_TYPES | {"deepseek_vl_v2", "deepseek_ocr", "deepseek_ocr2"}
"""Text types that never read it: latents, and a class that writes 0 for none (DeepSeek-VL2)."""
_MOST_EXPERTS = 100_000
_LARGEST_SIDE = 100_000
_MOST_MERGED = 1_000
_MOST_LAYERS = 1_000
"""Of a tower: more than any has, and a tree of weights is made of each."""


def check_plausible(top: Config, text: Config) -> None:
    """Refuse zeros, negatives and other nonsense in what decides sizes.

    Raises:
        ConfigError: Naming the key, its value and what is valid.
    """
    for config in (top,) if text.data is top.data else (top, text):
        _check_sizes(config)
        _check_others(config)
        _check_widths(config)
        _check_sides(config, ("spatial_merge_size",), _MOST_MERGED)
        _check_ropes(config)
        for key in ("dtype", "torch_dtype"):  # names of torch's own, as transformers looks them up
            value = config.data.get(key)
            if isinstance(value, str) and value not in _DTYPES:
                raise config.refused(key, value, "must be a dtype such as bfloat16 or float16")
    for key in ("vision_config", "audio_config", "encoder_config"):
        tower = top.data.get(key)
        if isinstance(tower, Mapping):
            _check_tower(Config(tower, top.where, prefix=f"{key}."))


def check_layers(text: Config, layers: Iterable[CacheLayer]) -> None:
    """Refuse attention with nothing in its heads, or heads that cannot share the cache's.

    Source: vLLM 0.33 ``layers/attention/attention.py`` ``Attention.__init__``.

    Raises:
        ConfigError: The hidden size is smaller than the number of heads that share it, or query
            heads are no multiple of KV heads.
    """
    for layer in layers:
        if isinstance(layer, Attention) and min(layer.head_size, layer.num_kv_heads) < 1:
            heads = f"{layer.num_kv_heads:,} KV heads of width {layer.head_size:,}"
            raise text.error("hidden_size", f"and head counts make attention with {heads}")
        if isinstance(layer, Attention) and layer.num_heads % layer.num_kv_heads:
            raise text.error(
                "num_attention_heads",
                f"({layer.num_heads}) is not divisible by the KV heads ({layer.num_kv_heads})",
            )


def _check_sizes(config: Config) -> None:
    data = config.data
    for key in _AT_LEAST_ONE:
        if key in data:
            config.opt_int(key)
    for key in (*_NOT_NEGATIVE, *_NOT_NEGATIVE_OR_LISTED):
        if key in data and not (key in _NOT_NEGATIVE_OR_LISTED and isinstance(data[key], list)):
            config.opt_int(key, minimum=0)
    for key in _EVERY_NTH:
        if not isinstance(data.get(key), list):
            config.opt_int(key)
    for key in _EXPERTS:
        if isinstance(data.get(key), list):
            config.list_of_ints(key, maximum=_MOST_EXPERTS)
        elif key in data:
            config.opt_int(key, minimum=0, maximum=_MOST_EXPERTS)
    if config.opt_str("model_type") in _WITH_EXPERTS:
        named = [key for key in _EXPERTS[:3] if data.get(key) == 0]
        if named:
            raise config.refused(named[0], 0, "must be 1 or more, as layers of experts are made")
    if "head_dim" in data:
        is_unread = config.opt_str("model_type") in _HEAD_DIM_OF_ZERO
        config.opt_int("head_dim", minimum=0 if is_unread else 1)


def _check_others(config: Config) -> None:
    data = config.data
    for key in _SHARES:
        if key in data and not isinstance(data[key], Mapping):
            config.opt_float(key, maximum=1.0)
    if data.get("time_step_rank", "auto") != "auto":
        config.opt_int("time_step_rank", maximum=1_000_000)
    if "mlp_only_layers" in data:
        config.list_of_ints("mlp_only_layers", default=())
    for key in ("mamba_ssm_dtype", "mamba_ssm_cache_dtype"):
        value = data.get(key)
        if value is not None and (not isinstance(value, str) or value not in _STATE_DTYPES):
            raise config.refused(key, value, f"must be one of {', '.join(sorted(_STATE_DTYPES))}")


def _check_ropes(config: Config) -> None:
    theta = config.data.get("rope_theta")
    for value in theta if isinstance(theta, list) else [theta]:  # one a layer (Step 3.5)
        Config({"rope_theta": value}, config.where, prefix=config.prefix).opt_float(
            "rope_theta", maximum=1e30
        )
    for key in ("rope_parameters", "rope_scaling"):
        if config.opt_sub(key) is None:
            continue
        found = config.data[key]
        own = Config(found, config.where, prefix=f"{config.prefix}{key}.")
        _check_rope(own)
        for name, value in found.items():
            if isinstance(value, Mapping):
                _check_rope(Config(value, own.where, prefix=f"{own.prefix}{name}."))


def _check_rope(rope: Config) -> None:
    data: Mapping[str, Any] = rope.data
    factor = data.get("factor")
    if factor is not None:
        rope.float("factor", maximum=1e6)
        if not factor > 0:
            raise rope.refused("factor", factor, "must be above 0")
    if "original_max_position_embeddings" in data:
        rope.opt_int("original_max_position_embeddings", minimum=0)
    if "partial_rotary_factor" in data:
        rope.opt_float("partial_rotary_factor", maximum=1.0)


def _check_tower(tower: Config) -> None:
    _check_sides(tower, ("patch_size", "image_size", "temporal_patch_size"), _LARGEST_SIDE)
    _check_sides(tower, ("spatial_merge_size", "pooling_kernel_size"), _MOST_MERGED)
    _check_widths(tower)
    for key, value in tower.data.items():
        if type(value) is int and value > _MOST_LAYERS and key.endswith(("layers", "depth")):
            raise tower.refused(key, value, f"must be at most {_MOST_LAYERS:,}")
    deep = tower.data.get("deepstack_visual_indexes")
    if deep is not None and len(tower.list_of_ints("deepstack_visual_indexes")) > 1000:
        raise tower.refused("deepstack_visual_indexes", deep, "must name at most 1,000 layers")


def _check_widths(config: Config) -> None:
    for key, value in config.data.items():
        if type(value) is not int or value >= 0 or not key.endswith(_WIDTHS):
            continue
        if not any(word in key for word in _MAY_BE_NEGATIVE):
            raise config.refused(key, value, "must be from 0 on, as the width of a weight")


def _check_sides(config: Config, keys: Iterable[str], maximum: int) -> None:
    """One number each; lists are for those who read them."""
    for key in keys:
        if isinstance(config.data.get(key), (int, float, str)):
            config.opt_int(key, maximum=maximum)
