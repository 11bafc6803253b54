"""Gemma 4's towers, which run through Transformers' code: every GPU holds all of them.

Source: vLLM 0.33 ``models/gemma4_mm.py``, ``gemma4_unified.py``; transformers 5.20
``models/gemma4``.
"""

from __future__ import annotations

from collections.abc import Sequence

from .....model.config import Config
from ...modules import Block, Linear, Module, Norm, Weight
from ..facts import Facts
from .config import part

_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_LIMITS = ("input_min", "input_max", "output_min", "output_max")


def gemma4(facts: Facts) -> Sequence[Module]:
    """Vision, and audio where the model hears."""
    return (*_vision(facts), *_audio(facts))


def gemma4_unified(facts: Facts) -> Sequence[Module]:
    """No towers: patches and sound go through one projection each, which every engine loads."""
    vision = part(facts, "vision_config", "gemma4_unified_vision")
    audio = part(facts, "audio_config", "gemma4_unified_audio")
    modules: list[Module] = []
    if vision is not None:
        width = vision.int("mm_embed_dim")
        patch = 3 * vision.int("model_patch_size", default=48) ** 2
        children: tuple[Module, ...] = (
            Norm("patch_ln1", patch, bias=True, part="vision"),
            Linear("patch_dense", patch, (width,), bias=True),
            Norm("patch_ln2", width, bias=True, part="vision"),
            Weight("pos_embedding", (vision.int("mm_posemb_size", default=1120), 2, width)),
            Norm("pos_norm", width, bias=True, part="vision"),
        )
        out = vision.int("output_proj_dims", default=width)
        modules.append(Block("vision_embedder", children, "vision"))
        modules.append(_projection("embed_vision", out, facts.hidden, "vision"))
    if audio is not None:
        out = audio.int("output_proj_dims", default=audio.int("hidden_size", default=640))
        modules.append(_projection("embed_audio", out, facts.hidden, "audio"))
    return modules


def _projection(name: str, inputs: int, outputs: int, kind: str) -> Block:
    return Block(name, (_plain("embedding_projection", inputs, outputs),), kind)


def _plain(name: str, inputs: int, outputs: int) -> Weight:
    return Weight(f"{name}.weight", (outputs, inputs))


def _vision(facts: Facts) -> Sequence[Module]:
    config = part(facts, "vision_config", "gemma4_vision")
    if config is None or not facts.builds_tower("image", "video"):
        return ()
    hidden, inner = config.int("hidden_size"), config.int("intermediate_size")
    heads = config.int("num_attention_heads")
    kv_heads = config.int("num_key_value_heads", default=heads)
    size = config.int("head_dim", default=hidden // heads)
    patch = config.int("patch_size", default=16)
    rows = config.int("position_embedding_size", default=10240)
    layer: tuple[Module, ...] = (
        _plain("self_attn.q_proj.linear", hidden, heads * size),
        _plain("self_attn.k_proj.linear", hidden, kv_heads * size),
        _plain("self_attn.v_proj.linear", hidden, kv_heads * size),
        _plain("self_attn.o_proj.linear", heads * size, hidden),
        Norm("self_attn.q_norm", size, part="vision"),
        Norm("self_attn.k_norm", size, part="vision"),
        _plain("mlp.gate_proj.linear", hidden, inner),
        _plain("mlp.up_proj.linear", hidden, inner),
        _plain("mlp.down_proj.linear", inner, hidden),
        *(Norm(name, hidden, part="vision") for name in _NORMS),
    )
    children: list[Module] = [
        Weight("patch_embedder.position_embedding_table", (2, rows, hidden)),
        _plain("patch_embedder.input_proj", 3 * patch * patch, hidden),
        *(Block(f"encoder.layers.{i}", layer) for i in range(config.int("num_hidden_layers"))),
        *(
            Weight(f"encoder.rotary_emb.{name}", (size // 4,), dtype="float32")
            for name in ("inv_freq", "original_inv_freq")
        ),
    ]
    if config.get("standardize"):
        children += [Weight("std_bias", (hidden,)), Weight("std_scale", (hidden,))]
    return (
        Block("vision_tower", tuple(children), "vision"),
        _projection("embed_vision", hidden, facts.hidden, "vision"),
    )


def _audio(facts: Facts) -> Sequence[Module]:
    config = part(facts, "audio_config", "gemma4_audio")
    if config is None or not facts.builds_tower("audio"):
        return ()
    hidden, out = config.int("hidden_size"), config.int("output_proj_dims", default=1536)
    layer = _audio_layer(config, hidden)
    channels = config.get("subsampling_conv_channels")
    first, second = channels if isinstance(channels, list) and len(channels) == 2 else (128, 32)
    before = "subsample_conv_projection"
    children: tuple[Module, ...] = (
        Weight(f"{before}.layer0.conv.weight", (first, 1, 3, 3)),
        Weight(f"{before}.layer0.norm.weight", (first,)),
        Weight(f"{before}.layer1.conv.weight", (second, first, 3, 3)),
        Weight(f"{before}.layer1.norm.weight", (second,)),
        _plain(f"{before}.input_proj_linear", second * 32, hidden),
        *(Block(f"layers.{i}", layer) for i in range(config.int("num_hidden_layers"))),
        _plain("output_proj", hidden, out),
        Weight("output_proj.bias", (out,)),
        Weight("rel_pos_enc.inv_timescales", (1, 1, hidden // 2)),
    )
    return (
        Block("audio_tower", children, "audio"),
        _projection("embed_audio", out, facts.hidden, "audio"),
    )


def _audio_layer(config: Config, hidden: int) -> tuple[Module, ...]:
    size = hidden // config.int("num_attention_heads", default=8)
    kernel = config.int("conv_kernel_size", default=5)
    clipped = (
        *(f"feed_forward{i}.ffw_layer_{j}" for i in (1, 2) for j in (1, 2)),
        *(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "post")),
        *("lconv1d.linear_start", "lconv1d.linear_end"),
    )
    wide = {"ffw_layer_1": (hidden, 4 * hidden), "ffw_layer_2": (4 * hidden, hidden)}
    wide["linear_start"] = (hidden, 2 * hidden)
    norms = (
        *(f"feed_forward{i}.{when}_layer_norm" for i in (1, 2) for when in ("pre", "post")),
        *("lconv1d.pre_layer_norm", "lconv1d.conv_norm"),
        *("norm_pre_attn", "norm_post_attn", "norm_out"),
    )
    return (
        *(
            _plain(f"{name}.linear", *wide.get(name.rpartition(".")[2], (hidden, hidden)))
            for name in clipped
        ),
        *(Weight(f"{name}.{limit}", ()) for name in clipped for limit in _LIMITS),
        _plain("self_attn.relative_k_proj", hidden, hidden),
        Weight("self_attn.per_dim_scale", (size,)),
        Weight("self_attn.softcap", ()),
        Weight("lconv1d.depthwise_conv1d.weight", (hidden, 1, kernel)),
        *(Norm(name, hidden, part="audio") for name in norms),
    )
