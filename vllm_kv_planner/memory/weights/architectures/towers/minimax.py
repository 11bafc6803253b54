"""MiniMax-M3's vision tower: CLIP's layers over patches of two frames, then two mergers.

Source: vLLM 0.33 ``models/minimax_m3/``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...modules import Block, Linear, Module, Norm, QKVLinear, Weight
from ..facts import Facts
from .config import part


def minimax_m3(facts: Facts) -> Sequence[Module]:
    """Encoder, projector, patch merger."""
    config = part(facts, "vision_config", "clip_vision_model")
    if config is None or not facts.builds_tower("image", "video"):
        return ()
    hidden, heads = config.int("hidden_size"), config.int("num_attention_heads")
    inner, patch = config.int("intermediate_size"), config.int("patch_size")
    merge = config.opt_sub("img_token_compression_config")
    frames = 2 if merge is None else merge.int("temporal_patch_size", default=2)
    side = 2 if merge is None else merge.int("spatial_merge_size", default=2)
    size = hidden // heads
    attention: tuple[Module, ...] = (
        QKVLinear("qkv_proj", hidden, heads, heads, size, bias=True),
        Linear("out_proj", hidden, (hidden,), "row", bias=True),
    )
    layer: tuple[Module, ...] = (
        Block("self_attn", attention),
        Norm("layer_norm1", hidden, True, part="vision"),
        Norm("layer_norm2", hidden, True, part="vision"),
        Linear("fc1", hidden, (inner,), bias=True),
        Linear("fc2", inner, (hidden,), "row", bias=True),
    )
    axes = 2 * (size // 2 // 3) // 2
    inside: tuple[Module, ...] = (
        Weight("embeddings.patch_embedding.weight", (hidden, 3, frames, patch, patch)),
        Norm("pre_layrnorm", hidden, True, part="vision"),
        *(Block(f"encoder.layers.{i}", layer) for i in range(config.int("num_hidden_layers"))),
        *(Weight(f"inv_freq_{axis}", (axes,), dtype="float32") for axis in "thw"),
    )
    text = facts.hidden
    middle = facts.top.int("projector_hidden_size", default=text)
    bias = facts.top.get("multimodal_projector_bias") is not False
    children: tuple[Module, ...] = (
        Block("vision_model", inside),
        Linear("multi_modal_projector.linear_1", hidden, (middle,), bias=bias),
        Linear("multi_modal_projector.linear_2", middle, (text,), "row", bias=bias),
        Linear("patch_merge_mlp.linear_1", text * side**2, (middle,), bias=bias),
        Linear("patch_merge_mlp.linear_2", middle, (text,), "row", bias=bias),
    )
    return (Block("vision_tower", children, "vision", is_tower=True),)
