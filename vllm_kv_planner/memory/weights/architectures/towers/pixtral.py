"""Pixtral's vision tower in Transformers' form: Mistral Small 3.

Source: vLLM 0.33 ``models/pixtral.py`` ``PixtralHFVisionModel``, ``models/mistral3.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...modules import Block, Linear, Module, Norm, QKVLinear, Weight
from ..facts import Facts
from .config import part


def mistral3(facts: Facts) -> Sequence[Module]:
    """Encoder, patch merger, projector."""
    config = part(facts, "vision_config", "pixtral")
    if config is None or not facts.builds_tower("image"):
        return ()
    hidden, heads = config.int("hidden_size"), config.int("num_attention_heads")
    inner, patch = config.int("intermediate_size"), config.int("patch_size")
    size = config.int("head_dim", default=hidden // heads)
    attention: tuple[Module, ...] = (
        QKVLinear("qkv_proj", hidden, heads, heads, size),
        Linear("o_proj", heads * size, (hidden,), "row"),
    )
    mlp: tuple[Module, ...] = (
        Linear("gate_up_proj", hidden, (inner, inner)),
        Linear("down_proj", inner, (hidden,), "row"),
    )
    layer: tuple[Module, ...] = (
        Block("attention", attention),
        Block("feed_forward", mlp),
        Norm("attention_norm", hidden, part="vision"),
        Norm("ffn_norm", hidden, part="vision"),
    )
    tower: tuple[Module, ...] = (
        Weight("patch_conv.weight", (hidden, config.int("num_channels", default=3), patch, patch)),
        Norm("ln_pre", hidden, part="vision"),
        *(Block(f"transformer.layers.{i}", layer) for i in range(config.int("num_hidden_layers"))),
        *(
            Weight(f"patch_positional_embedding.{name}", (size // 2,), dtype="float32")
            for name in ("inv_freq", "original_inv_freq")
        ),
    )
    side = facts.top.int("spatial_merge_size", default=2)
    bias = bool(facts.top.get("multimodal_projector_bias"))
    projector: tuple[Module, ...] = (
        Norm("norm", hidden, part="vision"),
        Weight("patch_merger.merging_layer.weight", (hidden, hidden * side**2)),
        Linear("linear_1", hidden, (facts.hidden,), bias=bias),
        Linear("linear_2", facts.hidden, (facts.hidden,), "row", bias=bias),
    )
    return (
        Block("vision_tower", tower, "vision", is_tower=True),
        Block("multi_modal_projector", projector, "vision"),
    )
