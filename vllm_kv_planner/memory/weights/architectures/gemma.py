"""Gemma 3 and 4: two ropes, four norms a layer; Gemma 4's wide full layers and shared caches.

Source: vLLM 0.33 ``models/gemma3.py``, ``models/gemma4.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....model.layers.attention import Attention
from ..modules import AttentionScales, Block, Linear, Module, Norm, RoutedExperts, Weight
from ..modules.embedding import TokenEmbedding
from .attention import attention
from .decoder import assemble
from .facts import Facts
from .feed_forward import mlp, num_experts
from .ropes import rope_parameters, rotary
from .tree import WeightTree


def attention_layers(facts: Facts) -> Mapping[int, Attention]:
    """The plain attention layer of each index."""
    return {
        layer.index: layer for layer in facts.description.layers if isinstance(layer, Attention)
    }


def gemma3(facts: Facts) -> WeightTree:
    """Windowed layers turn positions with a base of their own."""
    given = rope_parameters(facts.text)
    ropes = {
        True: rotary(facts, facts.head_size, parameters={}, variant="windowed"),
        False: rotary(facts, facts.head_size, parameters=given, variant="full"),
    }
    layers = attention_layers(facts)
    dense = mlp(facts)
    blocks = {key: attention(facts, rope=rope) for key, rope in ropes.items()}
    return assemble(facts, lambda index: (blocks[layers[index].sliding_window is not None], dense))


def gemma4(facts: Facts) -> WeightTree:
    """Full layers have wider heads; layers that share a cache have queries only."""
    text = facts.text
    layers = attention_layers(facts)
    narrow = text.opt_int("hidden_size_per_layer_input", minimum=0) or 0
    double = bool(text.get("use_double_wide_mlp"))
    hidden = facts.hidden

    def layer(index: int) -> Sequence[Module]:
        cache = layers[index]
        width = facts.intermediate * (2 if double and cache.kv_sharing else 1)
        found: list[Module] = [_attention4(facts, cache), mlp(facts, width=width)]
        if text.get("enable_moe_block") or text.get("use_second_mlp_block"):
            found += _experts4(facts)
        if narrow:
            found += [
                Linear("per_layer_input_gate", hidden, (narrow,), "none"),
                Linear("per_layer_projection", narrow, (hidden,), "none"),
                Norm("post_per_layer_input_norm", hidden),
            ]
        found.append(Weight("layer_scalar", (1,)))
        return found

    first: list[Module] = []
    if narrow:
        count = facts.num_layers
        rows = text.int("vocab_size_per_layer_input", default=facts.vocab_size)
        first += [
            TokenEmbedding("embed_tokens_per_layer", rows, narrow * count),
            Linear("per_layer_model_projection", hidden, (narrow * count,)),
            Norm("per_layer_projection_norm", narrow),
            Weight("embed_scale_per_layer", ()),
            Weight("per_layer_input_scale", ()),
            Weight("per_layer_projection_scale", ()),
        ]
    return assemble(facts, layer, first=first)


def _attention4(facts: Facts, cache: Attention) -> Block:
    heads, kv_heads, size = cache.num_heads, cache.num_kv_heads, cache.head_size
    windowed = cache.sliding_window is not None
    given: Mapping[str, Any] = rope_parameters(
        facts.text, "sliding_attention" if windowed else "full_attention"
    )
    rope = rotary(
        facts, size, parameters=given, width=size, variant="windowed" if windowed else "full"
    )
    if not cache.kv_sharing:
        return attention(facts, heads=heads, kv_heads=kv_heads, head_size=size, rope=rope)
    children: tuple[Module, ...] = (
        Linear("q_proj", facts.hidden, (heads * size,)),
        Linear("o_proj", heads * size, (facts.hidden,), "row"),
        Norm("q_norm", size, part="attention"),
        rope,
        AttentionScales(),
    )
    return Block("self_attn", children, part="attention")


def _experts4(facts: Facts) -> list[Module]:
    """Experts beside the MLP, with a router that scales."""
    count, hidden = num_experts(facts), facts.hidden
    width = facts.text.int("moe_intermediate_size", "expert_intermediate_size")
    router = Block(
        "router",
        (
            Weight("scale", (hidden,)),
            Weight("per_expert_scale", (count,)),
            Linear("proj", hidden, (count,), "none", quantised=False),
            Weight("root_size", ()),
        ),
        part="experts",
    )
    return [
        router,
        RoutedExperts("experts", count, hidden, width, activation="gelu"),
        Norm("post_feedforward_layernorm_1", hidden),
        Norm("post_feedforward_layernorm_2", hidden),
        Norm("pre_feedforward_layernorm_2", hidden),
    ]
