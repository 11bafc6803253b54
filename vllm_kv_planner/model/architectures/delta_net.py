"""Attention beside gated delta nets, Kimi delta attention or lightning attention.

Source: vLLM 0.33 ``model_executor/models/``: ``qwen3_next.py``, ``qwen3_5.py``, ``olmo_hybrid.py``,
``bailing_moe_v3.py``, ``bailing_moe_linear.py``, ``alice_ai.py``; ``models/kimi_k3/``,
``models/glm5next/``; defaults from transformers' ``Qwen3NextConfig``, ``Qwen3_5TextConfig``,
``OlmoHybridConfig``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UnsupportedError
from ...records import replace
from ..description import ModelReader
from ..layers.base import CacheLayer
from ..layers.delta_net import GatedDeltaNet, KimiDeltaAttention
from ..layers.mamba import LinearAttention
from ..layers.sparse import Indexer, PoolTail
from .blocks import (
    attention,
    block_types,
    by_type,
    even_head_size,
    every_nth,
    hybrid,
    latent,
    repeated,
)

FULL, LINEAR = "full_attention", "linear_attention"


def qwen_delta_net(model: ModelReader) -> GatedDeltaNet:
    """The delta net of Qwen3-Next and Qwen3.5."""
    text = model.text
    return GatedDeltaNet(
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
    return every_nth(model.num_hidden_layers, interval, nth=FULL, others=LINEAR)


def qwen(model: ModelReader) -> Sequence[CacheLayer]:
    """Qwen3-Next, Qwen3.5 to 3.8, dense and MoE; retrieval models may attend both ways."""
    text = model.text
    plain = attention(model, head_size=text.int("head_dim", default=256))
    if not text.bool("is_causal", default=True):
        plain = replace(plain, attn_type="encoder_only")
    return hybrid(model, qwen_types(model), plain, qwen_delta_net(model))


def olmo(model: ModelReader) -> Sequence[CacheLayer]:
    """OLMo hybrid: one attention layer in four, or the last where there are fewer."""
    text = model.text
    count = model.num_hidden_layers
    types = every_nth(count, 4, nth=FULL, others=LINEAR)
    if types and FULL not in types:
        types[-1] = FULL
    heads = text.int("num_attention_heads")
    key_heads = text.int("linear_num_key_heads", default=heads)
    key_dim = text.int(
        "linear_key_head_dim", default=text.int("hidden_size") * 3 // (4 * key_heads)
    )
    delta_net = GatedDeltaNet(
        num_key_heads=key_heads,
        num_value_heads=text.int("linear_num_value_heads", default=heads, minimum=0),
        key_head_dim=key_dim,
        value_head_dim=text.int("linear_value_head_dim", default=2 * key_dim),
        conv_kernel=text.int("linear_conv_kernel_dim", default=4, minimum=0),
        exports_checkpoints=False,
    )
    plain = attention(model, head_size=even_head_size(model))
    return hybrid(model, block_types(model, "layer_types", default=types), plain, delta_net)


def kimi(model: ModelReader) -> Sequence[CacheLayer]:
    """Kimi Linear and Kimi-K3; layers are listed from one."""
    linear = model.text.sub("linear_attn_config")
    k3 = linear.bool("use_full_rank_gate", default=False)
    delta = KimiDeltaAttention(
        num_heads=linear.int("num_heads"),
        head_dim=linear.int("head_dim"),
        conv_kernel=linear.int("short_conv_kernel_size"),
        has_flash_prefill=k3,
        gate_is_bounded=linear.get("gate_lower_bound") is not None,
        heeds_ssm_dtype=k3,
    )
    listed = set(linear.list_of_ints("kda_layers"))
    count = model.num_hidden_layers
    types = [LINEAR if index + 1 in listed else FULL for index in range(count)]
    full = latent(model, heeds_skip_layers=False)
    return hybrid(model, types, full, delta)


def bailing_v3(model: ModelReader) -> Sequence[CacheLayer]:
    """Ling 3 / Ring 3: the last layer of each group is latent attention, and an odd tail."""
    text = model.text
    size = text.int("layer_group_size", default=6)
    count = model.num_hidden_layers
    grouped = count // size * size
    types = [
        FULL if (index + 1) % size == 0 or index >= grouped else LINEAR for index in range(count)
    ]
    delta = KimiDeltaAttention(
        num_heads=model.num_attention_heads,
        head_dim=text.int("head_dim", default=128),
        conv_kernel=text.int("short_conv_kernel_size", default=4),
    )
    return hybrid(model, types, latent(model), delta)


def bailing_v25(model: ModelReader) -> Sequence[CacheLayer]:
    """Ling 2.5 / Ring 2.5: lightning attention, latent attention every n-th layer."""
    text = model.text
    size = text.int("layer_group_size", default=1, minimum=0)
    types = [
        LINEAR if size and (index + 1) % size else FULL for index in range(model.num_hidden_layers)
    ]
    even = text.int("hidden_size") // text.int("num_attention_heads")
    linear = LinearAttention(
        num_heads=model.num_attention_heads,
        head_dim=text.int("head_dim", default=even),
    )
    return hybrid(model, types, latent(model), linear)


def alice(model: ModelReader) -> Sequence[CacheLayer]:
    """AliceAI: grouped-query attention beside delta attention."""
    text = model.text
    delta = KimiDeltaAttention(
        num_heads=text.int("linear_num_key_heads"),
        head_dim=text.int("linear_key_head_dim"),
        conv_kernel=text.int("linear_conv_kernel_dim"),
    )
    return hybrid(model, block_types(model), attention(model), delta)


def glm5_next(model: ModelReader) -> Sequence[CacheLayer]:
    """GLM-5.3-Flash: delta attention; sparse latents with an indexer over pooled keys."""
    text = model.text
    linear = text.opt_sub("linear_attn_config")
    source = text if linear is None else linear
    bound = source.get("gate_lower_bound", "linear_lower_bound")
    if bound is None and source.bool("safe_gate", default=True):
        bound = -5.0
    delta = KimiDeltaAttention(
        num_heads=source.int("num_heads", "linear_num_heads", default=64),
        head_dim=source.int("head_dim" if linear else "linear_head_dim", default=128),
        conv_kernel=source.int("short_conv_kernel_size", "linear_conv_kernel_dim", default=4),
        has_flash_prefill=True,
        gate_is_bounded=bound is not None,
        heeds_ssm_dtype=True,
    )
    pool = text.int("index_kpool", default=16)
    if pool == 1:
        raise UnsupportedError(f"{text.where}: index_kpool 1 is not known to vLLM 0.33")
    head_dim = text.int("index_head_dim", default=128)
    full = latent(model, use_sparse=True, leads_index_group=True)
    indexed = repeated(
        Indexer(head_dim=head_dim, tokens_per_key=pool),
        PoolTail(head_dim=head_dim, tokens_per_key=pool),
        full,
    )
    default = every_nth(model.num_hidden_layers, 4, nth=FULL, others=LINEAR)
    types = block_types(model, "layer_types", default=default)
    return by_type(
        model, types, {"indexed_attention": indexed, FULL: indexed, LINEAR: repeated(delta)}
    )
