"""GLM-5.3-Flash's vision tower.

Source: vLLM 0.33 ``models/glm5next/``, ``models/glm4_1v.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...modules import Block, Linear, Module, Norm, QKVLinear, Rotary, Weight
from ..facts import Facts
from .config import part


def glm5_next(facts: Facts) -> Sequence[Module]:
    """Encoder with norms of queries and keys, a strided convolution, a gated merger."""
    config = part(facts, "vision_config", "glm5_next_vision")
    if config is None or not facts.builds_tower("image", "video"):
        return ()
    hidden, heads = config.int("hidden_size"), config.int("num_heads", "num_attention_heads")
    inner, patch = config.int("intermediate_size"), config.int("patch_size")
    out, side = config.int("out_hidden_size"), config.int("spatial_merge_size", default=2)
    merged = config.int("projection_intermediate_size")
    size = hidden // heads
    attention: tuple[Module, ...] = (
        QKVLinear("qkv", hidden, heads, heads, size, bias=True),
        Linear("proj", hidden, (hidden,), "row", bias=True),
        Norm("q_norm", size, part="vision"),
        Norm("k_norm", size, part="vision"),
    )
    mlp: tuple[Module, ...] = (
        Linear("gate_up_proj", hidden, (inner, inner), bias=True),
        Linear("down_proj", inner, (hidden,), "row", bias=True),
    )
    layer: tuple[Module, ...] = (
        Norm("norm1", hidden, part="vision"),
        Norm("norm2", hidden, part="vision"),
        Block("attn", attention),
        Block("mlp", mlp),
    )
    merger: tuple[Module, ...] = (
        Linear("proj", out, (out,)),
        Norm("post_projection_norm", out, True, part="vision"),
        Linear("gate_up_proj", out, (merged, merged)),
        Linear("down_proj", merged, (out,), "row"),
    )
    frames = config.int("temporal_patch_size", default=2)
    children: tuple[Module, ...] = (
        Weight("patch_embed.proj.weight", (hidden, 3, frames, patch, patch)),
        Weight("patch_embed.proj.bias", (hidden,)),
        *(Block(f"blocks.{i}", layer) for i in range(config.int("depth", "num_hidden_layers"))),
        Block("merger", merger),
        Weight("downsample.weight", (out, hidden, side, side)),
        Weight("downsample.bias", (out,)),
        Norm("post_layernorm", hidden, part="vision"),
        Rotary(facts.text.int("max_position_embeddings"), size // 2, None, "vision"),
    )
    return (Block("visual", children, "vision", is_tower=True),)
