"""Llama 4's vision tower.

Source: vLLM 0.33 ``models/mllama4.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...modules import Block, Linear, Module, Norm, QKVLinear, Rotary, Weight
from ..facts import Facts
from .config import part


def llama4(facts: Facts) -> Sequence[Module]:
    """Encoder, adapter behind a pixel shuffle, projector."""
    config = part(facts, "vision_config", "llama4_vision_model")
    if config is None or not facts.builds_tower("image"):
        return ()
    hidden, heads = config.int("hidden_size"), config.int("num_attention_heads")
    inner, patch = config.int("intermediate_size"), config.int("patch_size")
    positions = (config.int("image_size") // patch) ** 2 + 1
    attention: tuple[Module, ...] = (
        QKVLinear("qkv_proj", hidden, heads, heads, hidden // heads, bias=True),
        Linear("o_proj", hidden, (hidden,), "row", bias=True),
        Rotary(positions, hidden // heads // 2, "complex64", "vision"),
    )
    mlp: tuple[Module, ...] = (
        Linear("fc1", hidden, (inner,), bias=True),
        Linear("fc2", inner, (hidden,), "row", bias=True),
    )
    layer: tuple[Module, ...] = (
        Block("self_attn", attention),
        Block("mlp", mlp),
        Norm("input_layernorm", hidden, True, part="vision"),
        Norm("post_attention_layernorm", hidden, True, part="vision"),
    )
    ratio = config.float("pixel_shuffle_ratio", default=0.5, minimum=0.01, maximum=10.0)
    shuffled = int(hidden / ratio**2)
    projector_in = config.int("projector_input_dim", default=4096)
    projector_out = config.int("projector_output_dim", default=4096)
    out = config.int("vision_output_dim", default=projector_out)
    adapter: tuple[Module, ...] = (
        Linear("fc1", shuffled, (projector_in,)),
        Linear("fc2", projector_in, (projector_out,), "row"),
    )
    tower: tuple[Module, ...] = (
        Weight("class_embedding", (hidden,)),
        Weight("positional_embedding_vlm", (positions, hidden)),
        Linear("patch_embedding.linear", 3 * patch * patch, (hidden,)),
        Norm("layernorm_pre", hidden, True, part="vision"),
        Norm("layernorm_post", hidden, True, part="vision"),
        *(Block(f"model.layers.{i}", layer) for i in range(config.int("num_hidden_layers"))),
        Block("vision_adapter.mlp", adapter),
    )
    return (
        Block("vision_model", tower, "vision", is_tower=True),
        Block("multi_modal_projector", (Linear("linear_1", out, (facts.hidden,)),), "vision"),
    )
