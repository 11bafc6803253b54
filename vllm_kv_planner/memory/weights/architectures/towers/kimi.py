"""MoonViT with three dimensions: Kimi K2.5 and K3.

Source: vLLM 0.33 ``models/kimi_k25_vit.py``, ``models/kimi_k25.py``, ``models/kimi_k3/``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...modules import Block, Linear, Module, Norm, QKVLinear, Weight
from ..facts import Facts
from .config import part


def kimi(facts: Facts) -> Sequence[Module]:
    """Encoder and projector, never quantised; K3's has RMS norms and no biases."""
    config = part(facts, "vision_config")
    if config is None or not facts.builds_tower("image", "video", "vision_chunk"):
        return ()
    hidden = config.int("vt_hidden_size", "hidden_size", default=1152)
    heads = config.int("vt_num_attention_heads", "num_attention_heads", default=16)
    inner = config.int("vt_intermediate_size", "intermediate_size", default=4304)
    count = config.int("vt_num_hidden_layers", "num_hidden_layers", default=27)
    qkv = config.int("qkv_hidden_size", default=hidden)
    patch = config.int("patch_size", default=14)
    biased = config.get("attn_bias") is not False
    is_layer_norm = config.str("norm_type", default="layernorm") != "rmsnorm"
    height = config.int("init_pos_emb_height", default=64)
    width = config.int("init_pos_emb_width", default=64)
    frames = config.int("init_pos_emb_time", default=4)
    linear_bias = config.get("linear_bias") is not False
    mlp: tuple[Module, ...] = (
        Linear("fc0", hidden, (inner,), bias=linear_bias, quantised=False),
        Linear("fc1", inner, (hidden,), "row", bias=linear_bias, quantised=False),
    )
    layer: tuple[Module, ...] = (
        Norm("norm0", hidden, is_layer_norm, part="vision"),
        Norm("norm1", hidden, is_layer_norm, part="vision"),
        Block("mlp", mlp),
        QKVLinear("wqkv", hidden, heads, heads, qkv // heads, bias=biased, quantised=False),
        Linear("wo", qkv, (hidden,), "row", bias=biased, quantised=False),
    )
    embed: list[Module] = [
        Weight("proj.weight", (hidden, 3, patch, patch)),
        Weight("pos_emb.weight", (height, width, hidden)),
        Weight("pos_emb.time_weight", (frames, 1, hidden), dtype="float32"),
    ]
    if config.get("patch_embed_proj_bias") is not False:
        embed.append(Weight("proj.bias", (hidden,)))
    tower: tuple[Module, ...] = (
        Block("patch_embed", tuple(embed)),
        *(Block(f"encoder.blocks.{i}", layer) for i in range(count)),
        Norm("encoder.final_layernorm", hidden, is_layer_norm, part="vision"),
    )
    height, width = config.list_of_ints("merge_kernel_size", length=2, minimum=1, default=(2, 2))
    return (
        Block("vision_tower", tower, "vision", is_tower=True, heads=heads),
        Block("mm_projector", _projector(facts, hidden, hidden * height * width), "vision"),
    )


def _projector(facts: Facts, hidden: int, wide: int) -> tuple[Module, ...]:
    kind = str((facts.top.opt_sub("vision_config") or facts.top).get("mm_projector_type") or "")
    second = kind == "patchmergerv2"
    norm = (
        Norm("post_norm", facts.hidden, part="vision")
        if second
        else Norm("pre_norm", hidden, True, part="vision")
    )
    return (
        norm,
        Linear("linear_1", wide, (wide,), "none", bias=not second, quantised=False),
        Linear("linear_2", wide, (facts.hidden,), "none", bias=not second, quantised=False),
    )
