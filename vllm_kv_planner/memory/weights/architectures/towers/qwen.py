"""Qwen's vision towers: Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5.

Source: vLLM 0.33 ``models/qwen2_vl.py``, ``models/qwen2_5_vl.py``, ``models/qwen3_vl.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from .....model.config import Config
from ...modules import Block, Linear, Module, Norm, QKVLinear, Rotary, Weight
from ..facts import Facts
from .config import part

_MODALITIES = ("image", "video")
_ROTARY_ROWS = 8192


def _layer(hidden: int, heads: int, mlp: tuple[Module, ...]) -> tuple[Module, ...]:
    return (
        Norm("norm1", hidden, True, part="vision"),
        Norm("norm2", hidden, True, part="vision"),
        _attention(hidden, heads),
        Block("mlp", mlp),
    )


def _attention(hidden: int, heads: int) -> Block:
    children: tuple[Module, ...] = (
        QKVLinear("qkv", hidden, heads, heads, hidden // heads, bias=True),
        Linear("proj", hidden, (hidden,), "row", bias=True),
    )
    return Block("attn", children)


def _patches(config: Config, hidden: int, *, bias: bool) -> Block:
    patch = config.int("patch_size", "spatial_patch_size")
    channels = config.int("in_channels", "in_chans", default=3)
    shape = (hidden, channels, config.int("temporal_patch_size", default=2), patch, patch)
    children: list[Module] = [Weight("proj.weight", shape)]
    if bias:
        children.append(Weight("proj.bias", (hidden,)))
    return Block("patch_embed", tuple(children))


def _rotary(hidden: int, heads: int) -> Rotary:
    size = hidden // heads
    return Rotary(rows=_ROTARY_ROWS, width=size // 2, variant="vision", name="rotary_pos_emb")


def _tower(children: Sequence[Module]) -> Sequence[Module]:
    return (Block("visual", tuple(children), "vision", is_tower=True),)


def qwen2(facts: Facts) -> Sequence[Module]:
    """Qwen2-VL: LayerNorms, a plain MLP."""
    config = part(facts, "vision_config", "qwen2_vl")
    if config is None or not facts.builds_tower(*_MODALITIES):
        return ()
    hidden, heads = config.int("embed_dim", default=1280), config.int("num_heads", default=16)
    inner = int(hidden * config.float("mlp_ratio", default=4.0))
    mlp: tuple[Module, ...] = (
        Linear("fc1", hidden, (inner,), bias=True),
        Linear("fc2", inner, (hidden,), "row", bias=True),
    )
    layer = _layer(hidden, heads, mlp)
    wide = hidden * config.int("spatial_merge_size", default=2) ** 2
    out = config.int("hidden_size", default=facts.hidden)
    merger = _merger(Norm("ln_q", hidden, True, part="vision"), wide, out)
    return _tower(
        [
            _patches(config, hidden, bias=False),
            *(Block(f"blocks.{i}", layer) for i in range(config.int("depth", default=32))),
            merger,
            _rotary(hidden, heads),
        ]
    )


def qwen2_5(facts: Facts) -> Sequence[Module]:
    """Qwen2.5-VL: RMS norms, a gated MLP."""
    config = part(facts, "vision_config", "qwen2_5_vl")
    if config is None or not facts.builds_tower(*_MODALITIES):
        return ()
    hidden, heads = config.int("hidden_size", default=1280), config.int("num_heads", default=16)
    inner = config.int("intermediate_size", default=3420)
    mlp: tuple[Module, ...] = (
        Linear("gate_up_proj", hidden, (inner, inner), bias=True),
        Linear("down_proj", inner, (hidden,), "row", bias=True),
    )
    layer: tuple[Module, ...] = (
        Norm("norm1", hidden, part="vision"),
        Norm("norm2", hidden, part="vision"),
        _attention(hidden, heads),
        Block("mlp", mlp),
    )
    wide = hidden * config.int("spatial_merge_size", default=2) ** 2
    out = config.int("out_hidden_size", default=facts.hidden)
    return _tower(
        [
            _patches(config, hidden, bias=False),
            *(Block(f"blocks.{i}", layer) for i in range(config.int("depth", default=32))),
            _merger(Norm("ln_q", hidden, part="vision"), wide, out),
            _rotary(hidden, heads),
        ]
    )


def _merger(norm: Norm, wide: int, out: int) -> Block:
    children: tuple[Module, ...] = (
        norm,
        Linear("mlp.0", wide, (wide,), bias=True),
        Linear("mlp.2", wide, (out,), "row", bias=True),
    )
    return Block("merger", children)


def qwen3(facts: Facts) -> Sequence[Module]:
    """Qwen3-VL and Qwen3.5: learned positions, mergers on several layers."""
    config = part(facts, "vision_config", "qwen3_vl_vision")
    if config is None or not facts.builds_tower(*_MODALITIES):
        return ()
    hidden, heads = config.int("hidden_size", default=1152), config.int("num_heads", default=16)
    inner = config.int("intermediate_size", default=4304)
    mlp: tuple[Module, ...] = (
        Linear("linear_fc1", hidden, (inner,), bias=True),
        Linear("linear_fc2", inner, (hidden,), "row", bias=True),
    )
    layer = _layer(hidden, heads, mlp)
    wide = hidden * config.int("spatial_merge_size", default=2) ** 2
    out = config.int("out_hidden_size", default=facts.hidden)
    deep = config.get("deepstack_visual_indexes")
    if deep is None and facts.top.str("model_type", default="").startswith("qwen3_vl"):
        deep = [8, 16, 24]
    positions = config.int("num_position_embeddings", default=2304)
    return _tower(
        [
            _patches(config, hidden, bias=True),
            Weight("pos_embed.weight", (positions, hidden)),
            *(Block(f"blocks.{i}", layer) for i in range(config.int("depth", default=27))),
            _merger3("merger", hidden, wide, out),
            *(
                _merger3(f"deepstack_merger_list.{i}", wide, wide, out)
                for i in range(len(deep) if isinstance(deep, list) else 0)
            ),
            _rotary(hidden, heads),
        ]
    )


def _merger3(name: str, normed: int, wide: int, out: int) -> Block:
    children: tuple[Module, ...] = (
        Norm("norm", normed, True, part="vision"),
        Linear("linear_fc1", wide, (wide,), bias=True),
        Linear("linear_fc2", wide, (out,), "row", bias=True),
    )
    return Block(name, children)
