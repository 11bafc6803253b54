"""Gemma 3 and 4: two ropes, four norms a layer; Gemma 4's wide full layers and its towers.

Source: vLLM 0.33 ``models/gemma3.py``, ``models/gemma4.py``, ``gemma4_mm.py``,
``gemma4_unified.py``; transformers 5.20 ``models/gemma4``, through which its towers run: every GPU
holds all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....model.config import Config
from ....model.layers.attention import Attention
from ..experts import RoutedExperts
from ..modules import AttentionScales, Block, Linear, Module, Norm, TokenEmbedding, Weight
from .attention import attention, rope_parameters, rotary
from .decoder import assemble
from .facts import Facts, WeightTree, part
from .feed_forward import mlp, num_experts


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
        Linear("q_proj", facts.hidden, (heads * size,), bias=facts.flag("qkv_bias")),
        Linear("o_proj", heads * size, (facts.hidden,), "row", bias=facts.flag("o_bias")),
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


_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_LIMITS = ("input_min", "input_max", "output_min", "output_max")


def gemma4_towers(facts: Facts) -> Sequence[Module]:
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
