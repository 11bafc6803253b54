"""Decoders whose layers differ in kind; which kind each is, its cache layer says.

Source: vLLM 0.33 ``models/qwen3_next.py``, ``models/qwen3_5.py``, ``models/nemotron_h.py``,
``models/jamba.py``, ``models/mamba.py``, ``models/nemotron_nas.py``, ``models/laguna.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ....model.architectures.hybrid import LETTERS
from ....model.layers.attention import Attention
from ....model.layers.base import CacheLayer
from ....model.layers.delta_net import GatedDeltaNet, KimiDeltaAttention
from ....model.layers.latent import LatentAttention
from ....model.layers.mamba import Mamba1, Mamba2
from ....records import replace
from ..experts import RoutedExperts
from ..modules import Block, Linear, Module, Norm, Weight
from .attention import attention, rotary
from .decoder import assemble
from .facts import Facts, WeightTree
from .feed_forward import activation, feed_forward, mlp, moe, num_experts
from .mixers import delta_net, kimi_delta, latent_attention, mamba1, mamba2


def _attention(facts: Facts, layer: Attention) -> Block:
    return attention(
        facts, heads=layer.num_heads, kv_heads=layer.num_kv_heads, head_size=layer.head_size
    )


_MIXERS: Sequence[tuple[type[CacheLayer], Callable[[Facts, Any], Block]]] = (
    (Attention, _attention),
    (GatedDeltaNet, delta_net),
    (Mamba2, mamba2),
    (Mamba1, mamba1),
    (KimiDeltaAttention, kimi_delta),
    (LatentAttention, lambda facts, layer: latent_attention(facts)),
)
"""Cache layer and the block that keeps it, the first match."""


def mixers(facts: Facts) -> Mapping[int, Block]:
    """By layer the block that keeps its cache; layers alike share one."""
    made: dict[CacheLayer, Block | None] = {}
    found: dict[int, Block] = {}
    for layer in facts.description.layers:
        kind = replace(layer, index=0)
        if kind not in made:
            make = next((make for each, make in _MIXERS if isinstance(kind, each)), None)
            made[kind] = None if make is None else make(facts, kind)
        if (block := made[kind]) is not None:
            found[layer.index] = block
    return found


def hybrid(facts: Facts) -> WeightTree:
    """Every layer: what its cache layer tells, then an MLP or experts."""
    blocks, after = mixers(facts), feed_forward(facts)
    return assemble(facts, lambda index: (blocks[index], after(index)))


def mamba(facts: Facts) -> WeightTree:
    """Mamba alone: a mixer and a norm a layer."""
    blocks = mixers(facts)
    return assemble(facts, lambda index: (blocks[index],))


def granite(facts: Facts) -> WeightTree:
    """Granite 4: a shared MLP in every layer, experts beside it where there are any.

    Source: ``models/granitemoehybrid.py``, ``models/granitemoeshared.py``.
    """
    text = facts.text
    turns = text.str("position_embedding_type", default="rope") == "rope"
    blocks = mixers(facts.with_options({**facts.options, "rotary": turns}))
    width = text.opt_int("shared_intermediate_size", minimum=0) or 0
    parts: list[Module] = []
    if num_experts(facts):
        parts.append(moe(facts, facts.options["moe"]))
    if width:
        inner: tuple[Module, ...] = (
            Linear("input_linear", facts.hidden, (width, width)),
            Linear("output_linear", width, (facts.hidden,), "row"),
        )
        parts.append(Block("shared_mlp", inner, part="shared experts"))
    return assemble(facts, lambda index: (blocks[index], *parts))


def nemotron_h(facts: Facts) -> WeightTree:
    """Nemotron-H: one mixer a layer, be it Mamba, attention, an MLP or experts."""
    text = facts.text
    blocks = mixers(facts)
    pattern = text.get("hybrid_override_pattern")
    listed = text.get("layers_block_type", "layer_types")
    types = listed if isinstance(listed, list) else [LETTERS.get(c, c) for c in str(pattern or "")]
    bias = bool(text.get("mlp_bias"))
    dense = Block(
        "mixer",
        (
            Linear("up_proj", facts.hidden, (facts.intermediate,), bias=bias),
            Linear("down_proj", facts.intermediate, (facts.hidden,), "row", bias=bias),
        ),
        part="mlp",
    )
    sparse = nemotron_experts(facts)

    def layer(index: int) -> Sequence[Module]:
        if index in blocks:
            return (blocks[index],)
        return (sparse if types[index] == "moe" else dense,)

    return assemble(facts, layer)


def nemotron_experts(facts: Facts) -> Block:
    """Experts without gates, in a narrower space where there is one."""
    text, hidden = facts.text, facts.hidden
    count, width = num_experts(facts), text.int("moe_intermediate_size", default=1)
    latent = text.opt_int("moe_latent_size")
    children: list[Module] = [
        Linear("gate", hidden, (count,), "none", quantised=False, dtype=gate_dtype(facts)),
        Weight("gate.e_score_correction_bias", (count,), dtype="float32"),
    ]
    shared = text.int("n_shared_experts", default=0, minimum=0) * text.int(
        "moe_shared_expert_intermediate_size", default=0, minimum=0
    )
    if shared:
        inner: tuple[Module, ...] = (
            Linear("up_proj", hidden, (shared,)),
            Linear("down_proj", shared, (hidden,), "row"),
        )
        children.append(Block("shared_experts", inner, part="shared experts"))
    if latent:
        children += [
            Linear("fc1_latent_proj", hidden, (latent,), "none"),
            Linear("fc2_latent_proj", latent, (hidden,), "none"),
        ]
    children.append(
        RoutedExperts(
            "experts", count, latent or hidden, width, gated=False, activation=activation(facts)
        )
    )
    return Block("mixer", tuple(children), part="experts")


def gate_dtype(facts: Facts) -> str | None:
    """A router computed in float32: without a kernel for that, its weights are float32 too.

    Source: ``layers/fused_moe/router/gate_linear.py`` ``force_fp32_compute``.
    """
    has_kernel = facts.capability == (9, 0) or facts.capability[0] == 10
    return None if has_kernel else "float32"


def laguna(facts: Facts) -> WeightTree:
    """Laguna: heads by layer, a gate per head, two ropes."""
    text = facts.text
    after = feed_forward(facts)
    blocks: dict[int, Block] = {}
    for cache in facts.description.layers:
        if not isinstance(cache, Attention):
            continue
        windowed = cache.sliding_window is not None
        rope = rotary(
            facts,
            cache.head_size,
            layer_type="sliding_attention" if windowed else "full_attention",
            variant="windowed" if windowed else "full",
        )
        gate = Linear("g_proj", facts.hidden, (cache.num_heads,))
        blocks[cache.index] = attention(
            facts,
            heads=cache.num_heads,
            kv_heads=cache.num_kv_heads,
            head_size=cache.head_size,
            rope=rope,
            extra=(gate,) if text.get("gating") else (),
        )
    return assemble(facts, lambda index: (blocks[index], after(index)))


def nas(facts: Facts) -> WeightTree:
    """Nemotron-NAS: each layer has its own MLP width, and perhaps no attention at all.

    Source: ``models/nemotron_nas.py`` ``_ffn_mult_to_intermediate_size``.
    """
    blocks = mixers(facts)
    configs = facts.text.list_of_subs("block_configs")

    def layer(index: int) -> Sequence[Module]:
        found: list[Module] = []
        if index in blocks:
            found += [blocks[index], Norm("input_layernorm", facts.hidden)]
        ffn = configs[index].sub("ffn")
        if not ffn.bool("no_op", default=False):
            if ffn.get("replace_with_linear"):
                found.append(Linear("mlp.linear_mlp", facts.hidden, (facts.hidden,)))
            else:
                width = int(2 * ffn.float("ffn_mult") * facts.hidden / 3)
                found.append(mlp(facts, width=-(-width // 256) * 256))
            found.append(Norm("post_attention_layernorm", facts.hidden))
        return found

    return assemble(facts, layer, norms=False)
