"""Attention beside gated delta nets.

Source: vLLM 0.33 ``model_executor/models/qwen3_next.py``, ``qwen3_5.py``, ``olmo_hybrid.py``;
defaults from transformers' ``Qwen3NextConfig``, ``Qwen3_5TextConfig``, ``OlmoHybridConfig``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...records import replace
from ..layers.base import CacheLayer
from ..layers.delta_net import GatedDeltaNet
from .blocks import attention, block_types, by_type, even_head_size, every_nth, repeated
from .reader import ModelReader


def qwen_delta_net(model: ModelReader) -> GatedDeltaNet:
    """The delta net of Qwen3-Next and Qwen3.5."""
    text = model.text
    return GatedDeltaNet(
        index=0,
        num_key_heads=text.int("linear_num_key_heads", default=16, minimum=0),
        num_value_heads=text.int("linear_num_value_heads", default=32, minimum=0),
        key_head_dim=text.int("linear_key_head_dim", default=128, minimum=0),
        value_head_dim=text.int("linear_value_head_dim", default=128, minimum=0),
        conv_kernel=text.int("linear_conv_kernel_dim", default=4, minimum=0),
    )


def qwen_types(model: ModelReader) -> list[str]:
    """Listed, or one attention layer in four (``full_attention_interval``)."""
    if model.text.has("layer_types"):
        return block_types(model, "layer_types")
    interval = model.text.int("full_attention_interval", default=4)
    every = every_nth(
        model.num_hidden_layers, interval, nth="full_attention", others="linear_attention"
    )
    return list(every)


def qwen(model: ModelReader) -> Sequence[CacheLayer]:
    """Qwen3-Next, Qwen3.5 to 3.8, dense and MoE; retrieval models may attend both ways."""
    text = model.text
    plain = attention(model, head_size=text.int("head_dim", default=256))
    if not text.bool("is_causal", default=True):
        plain = replace(plain, attn_type="encoder_only")
    make = {
        "full_attention": repeated(plain),
        "linear_attention": repeated(qwen_delta_net(model)),
    }
    return by_type(model, qwen_types(model), make)


def olmo(model: ModelReader) -> Sequence[CacheLayer]:
    """OLMo hybrid: one attention layer in four, or the last where there are fewer."""
    text = model.text
    count = model.num_hidden_layers
    types = every_nth(count, 4, nth="full_attention", others="linear_attention")
    if types and "full_attention" not in types:
        types[-1] = "full_attention"
    heads = text.int("num_attention_heads")
    key_heads = text.int("linear_num_key_heads", default=heads)
    key_dim = text.int(
        "linear_key_head_dim", default=text.int("hidden_size") * 3 // (4 * key_heads)
    )
    delta_net = GatedDeltaNet(
        index=0,
        num_key_heads=key_heads,
        num_value_heads=text.int("linear_num_value_heads", default=heads, minimum=0),
        key_head_dim=key_dim,
        value_head_dim=text.int("linear_value_head_dim", default=2 * key_dim),
        conv_kernel=text.int("linear_conv_kernel_dim", default=4, minimum=0),
        exports_checkpoints=False,
    )
    plain = attention(model, head_size=even_head_size(model))
    make = {"full_attention": repeated(plain), "linear_attention": repeated(delta_net)}
    return by_type(model, block_types(model, "layer_types", default=types), make)
