"""Vision towers over pictures of any size: Qwen2-VL to Qwen3.5, GLM-5.3-Flash, Kimi's MoonViT.

Source: vLLM 0.33 ``models/qwen2_vl.py``, ``models/qwen2_5_vl.py``, ``models/qwen3_vl.py``,
``models/glm5next/``, ``models/glm4_1v.py``, ``models/kimi_k25_vit.py``, ``models/kimi_k25.py``,
``models/kimi_k3/``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....model.config import Config
from ..modules import (
    Block,
    Linear,
    Module,
    Norm,
    Rotary,
    Weight,
    attention_pair,
    mlp_pair,
    qkv_linear,
    unquantised,
)
from .facts import Facts, part

_MODALITIES = ("image", "video")


def _layer(
    hidden: int, heads: int, mlp: tuple[Module, ...], *, is_layer_norm: bool = True
) -> tuple[Module, ...]:
    return (
        Norm("norm1", hidden, is_layer_norm, part="vision"),
        Norm("norm2", hidden, is_layer_norm, part="vision"),
        Block("attn", attention_pair("qkv", "proj", hidden, heads, bias=True)),
        Block("mlp", mlp),
    )


def _tower(
    config: Config,
    hidden: int,
    heads: int,
    layers: Sequence[tuple[Module, ...]],
    mergers: Sequence[Module],
    positions: Sequence[Module] = (),
) -> Sequence[Module]:
    """Patches (with a bias where positions are learned), layers, mergers, the rotary cache."""
    patch = config.int("patch_size", "spatial_patch_size")
    channels = config.int("in_channels", "in_chans", default=3)
    shape = (hidden, channels, config.int("temporal_patch_size", default=2), patch, patch)
    patches: list[Module] = [Weight("patch_embed.proj.weight", shape)]
    if positions:
        patches.append(Weight("patch_embed.proj.bias", (hidden,)))
    blocks = (Block(f"blocks.{number}", layer) for number, layer in enumerate(layers))
    rope = Rotary(8192, hidden // heads // 2, variant="vision", name="rotary_pos_emb")
    children = (*patches, *positions, *blocks, *mergers, rope)
    return (Block("visual", children, "vision", is_tower=True),)


def qwen2(facts: Facts) -> Sequence[Module]:
    """Qwen2-VL: LayerNorms, a plain MLP."""
    config = part(facts, "vision_config", "qwen2_vl")
    if config is None or not facts.builds_tower(*_MODALITIES):
        return ()
    hidden, heads = config.int("embed_dim", default=1280), config.int("num_heads", default=16)
    inner = int(hidden * config.float("mlp_ratio", default=4.0))
    layer = _layer(hidden, heads, mlp_pair("fc1", "fc2", hidden, inner, bias=True))
    merger = _merger(
        config, hidden, config.int("hidden_size", default=facts.hidden), is_layer_norm=True
    )
    return _tower(config, hidden, heads, [layer] * config.int("depth", default=32), (merger,))


def qwen2_5(facts: Facts) -> Sequence[Module]:
    """Qwen2.5-VL: RMS norms, a gated MLP."""
    config = part(facts, "vision_config", "qwen2_5_vl")
    if config is None or not facts.builds_tower(*_MODALITIES):
        return ()
    hidden, heads = config.int("hidden_size", default=1280), config.int("num_heads", default=16)
    inner = config.int("intermediate_size", default=3420)
    mlp = mlp_pair("gate_up_proj", "down_proj", hidden, inner, gated=True, bias=True)
    layer = _layer(hidden, heads, mlp, is_layer_norm=False)
    merger = _merger(
        config, hidden, config.int("out_hidden_size", default=facts.hidden), is_layer_norm=False
    )
    return _tower(config, hidden, heads, [layer] * config.int("depth", default=32), (merger,))


def _merger(config: Config, hidden: int, out: int, *, is_layer_norm: bool) -> Block:
    wide = hidden * config.int("spatial_merge_size", default=2) ** 2
    pair = mlp_pair("mlp.0", "mlp.2", wide, wide, out=out, bias=True)
    return Block("merger", (Norm("ln_q", hidden, is_layer_norm, part="vision"), *pair))


def qwen3(facts: Facts) -> Sequence[Module]:
    """Qwen3-VL and Qwen3.5: learned positions, mergers on several layers."""
    config = part(facts, "vision_config", "qwen3_vl_vision")
    if config is None or not facts.builds_tower(*_MODALITIES):
        return ()
    hidden, heads = config.int("hidden_size", default=1152), config.int("num_heads", default=16)
    inner = config.int("intermediate_size", default=4304)
    layer = _layer(hidden, heads, mlp_pair("linear_fc1", "linear_fc2", hidden, inner, bias=True))
    wide = hidden * config.int("spatial_merge_size", default=2) ** 2
    out = config.int("out_hidden_size", default=facts.hidden)
    deep = config.get("deepstack_visual_indexes")
    if deep is None and facts.top.str("model_type", default="").startswith("qwen3_vl"):
        deep = [8, 16, 24]
    pair = mlp_pair("linear_fc1", "linear_fc2", wide, wide, out=out, bias=True)
    mergers = [Block("merger", (Norm("norm", hidden, True, part="vision"), *pair))]
    mergers += [
        Block(f"deepstack_merger_list.{i}", (Norm("norm", wide, True, part="vision"), *pair))
        for i in range(len(deep) if isinstance(deep, list) else 0)
    ]
    rows = config.int("num_position_embeddings", default=2304)
    positions = (Weight("pos_embed.weight", (rows, hidden)),)
    layers = [layer] * config.int("depth", default=27)
    return _tower(config, hidden, heads, layers, mergers, positions)


def glm5_next(facts: Facts) -> Sequence[Module]:
    """Encoder with norms of queries and keys, a strided convolution, a gated merger.

    It is never quantised (models/glm5next/common/model.py).
    """
    config = part(facts, "vision_config", "glm5_next_vision")
    if config is None or not facts.builds_tower("image", "video"):
        return ()
    hidden, heads = config.int("hidden_size"), config.int("num_heads", "num_attention_heads")
    inner, patch = config.int("intermediate_size"), config.int("patch_size")
    out, side = config.int("out_hidden_size"), config.int("spatial_merge_size", default=2)
    merged = config.int("projection_intermediate_size")
    size = hidden // heads
    attention: tuple[Module, ...] = (
        *attention_pair("qkv", "proj", hidden, heads, bias=True),
        Norm("q_norm", size, part="vision"),
        Norm("k_norm", size, part="vision"),
    )
    mlp = mlp_pair("gate_up_proj", "down_proj", hidden, inner, gated=True, bias=True)
    layer: tuple[Module, ...] = (
        Norm("norm1", hidden, part="vision"),
        Norm("norm2", hidden, part="vision"),
        Block("attn", attention),
        Block("mlp", mlp),
    )
    merger: tuple[Module, ...] = (
        Linear("proj", out, (out,)),
        Norm("post_projection_norm", out, True, part="vision"),
        *mlp_pair("gate_up_proj", "down_proj", out, merged, gated=True),
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
    return (unquantised(Block("visual", children, "vision", is_tower=True)),)


def kimi(facts: Facts) -> Sequence[Module]:
    """Encoder and projector, never quantised; K3's has RMS norms and no biases.

    The whole encoder takes the engine's dtype, unless vLLM hands it the quantisation config, which
    it does for all methods but compressed-tensors (``_maybe_ignore_quant_config``). Option of the
    row: ``modalities``.
    """
    config = part(facts, "vision_config")
    if config is None or not facts.builds_tower(*facts.names("modalities", ())):
        return ()
    quantised = facts.top.opt_sub("quantization_config")
    is_cast = quantised is None or quantised.get("quant_method") == "compressed-tensors"
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
        qkv_linear("wqkv", hidden, heads, heads, qkv // heads, bias=biased, quantised=False),
        Linear("wo", qkv, (hidden,), "row", bias=biased, quantised=False),
    )
    embed: list[Module] = [
        Weight("proj.weight", (hidden, 3, patch, patch)),
        Weight("pos_emb.weight", (height, width, hidden)),
        Weight(
            "pos_emb.time_weight",
            (frames, 1, hidden),
            dtype=None if is_cast else "float32",
        ),
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
