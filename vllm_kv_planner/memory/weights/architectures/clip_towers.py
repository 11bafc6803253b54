"""Vision towers of Mistral 3, Llama 4 and MiniMax M3.

Each function lists the modules beside the language model, none of them where
``--limit-mm-per-prompt`` or ``--language-model-only`` leaves the tower out.

Source: vLLM 0.33 ``models/pixtral.py`` ``PixtralHFVisionModel``, ``models/mistral3.py``,
``models/mllama4.py``, ``models/minimax_m3/``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..modules import (
    Block,
    Linear,
    Module,
    Norm,
    Rotary,
    Weight,
    attention_pair,
    mlp_pair,
)
from .facts import Facts, part

_PAIR = ("linear_1", "linear_2")


def mistral3(facts: Facts) -> Sequence[Module]:
    """Encoder, patch merger, projector."""
    config = part(facts, "vision_config", "pixtral")
    if config is None or not facts.builds_tower("image"):
        return ()
    hidden, heads = config.int("hidden_size"), config.int("num_attention_heads")
    inner, patch = config.int("intermediate_size"), config.int("patch_size")
    size = config.int("head_dim", default=hidden // heads)
    layer: tuple[Module, ...] = (
        Block("attention", attention_pair("qkv_proj", "o_proj", hidden, heads, size=size)),
        Block("feed_forward", mlp_pair("gate_up_proj", "down_proj", hidden, inner, gated=True)),
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
        *mlp_pair(*_PAIR, hidden, facts.hidden, out=facts.hidden, bias=bias),
    )
    return (
        Block("vision_tower", tower, "vision", is_tower=True),
        Block("multi_modal_projector", projector, "vision"),
    )


def llama4(facts: Facts) -> Sequence[Module]:
    """Encoder, adapter behind a pixel shuffle, projector."""
    config = part(facts, "vision_config", "llama4_vision_model")
    if config is None or not facts.builds_tower("image"):
        return ()
    hidden, heads = config.int("hidden_size"), config.int("num_attention_heads")
    inner, patch = config.int("intermediate_size"), config.int("patch_size")
    positions = (config.int("image_size") // patch) ** 2 + 1
    attention: tuple[Module, ...] = (
        *attention_pair("qkv_proj", "o_proj", hidden, heads, bias=True),
        Rotary(positions, hidden // heads // 2, "complex64", "vision"),
    )
    layer: tuple[Module, ...] = (
        Block("self_attn", attention),
        Block("mlp", mlp_pair("fc1", "fc2", hidden, inner, bias=True)),
        Norm("input_layernorm", hidden, True, part="vision"),
        Norm("post_attention_layernorm", hidden, True, part="vision"),
    )
    ratio = config.float("pixel_shuffle_ratio", default=0.5, minimum=0.01, maximum=10.0)
    shuffled = int(hidden / ratio**2)
    projector_in = config.int("projector_input_dim", default=4096)
    projector_out = config.int("projector_output_dim", default=4096)
    out = config.int("vision_output_dim", default=projector_out)
    adapter = mlp_pair("fc1", "fc2", shuffled, projector_in, out=projector_out)
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
    layer: tuple[Module, ...] = (
        Block("self_attn", attention_pair("qkv_proj", "out_proj", hidden, heads, bias=True)),
        Norm("layer_norm1", hidden, True, part="vision"),
        Norm("layer_norm2", hidden, True, part="vision"),
        *mlp_pair("fc1", "fc2", hidden, inner, bias=True),
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
        Block("multi_modal_projector", mlp_pair(*_PAIR, hidden, middle, out=text, bias=bias)),
        Block("patch_merge_mlp", mlp_pair(*_PAIR, text * side**2, middle, out=text, bias=bias)),
    )
    return (Block("vision_tower", children, "vision", is_tower=True),)
