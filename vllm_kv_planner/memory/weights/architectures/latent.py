"""Latent attention (MLA) and the indexer of its sparse form.

Source: vLLM 0.33 ``models/deepseek_v2.py`` ``DeepseekV2MLAAttention``, ``Indexer``;
``layers/mla.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....model.layers.indexer import Indexer
from ..modules import AttentionScales, Block, Linear, Module, Norm, Weight
from .decoder import assemble
from .facts import Facts
from .feed_forward import is_sparse, mlp, moe, moe_options
from .ropes import rotary
from .tree import WeightTree


def latent_decoder(facts: Facts) -> WeightTree:
    """Every layer: latent attention, then an MLP or experts."""
    with_indexer, without = latent_attention(facts), latent_attention(facts, indexer=False)
    dense = mlp(facts)
    options = moe_options(facts)
    sparse = None if options is None else moe(facts, options)
    indexed = layers_with_indexer(facts)

    def layer(index: int) -> Sequence[Module]:
        block = with_indexer if index in indexed else without
        is_moe = sparse is not None and options is not None and is_sparse(facts, options, index)
        return (block, sparse if is_moe and sparse is not None else dense)

    return assemble(facts, layer)


def latent_attention(facts: Facts, *, indexer: bool = True, rope: bool = True) -> Block:
    """The attention block. Down projections are replicated, up projections divided by heads.

    Options of the row: ``attention``, ``o``, ``attn`` (names), ``output_gate`` (the first
    projection makes a gate too), ``sparse_scales``.

    Args:
        facts: The model.
        indexer: Whether the layer has one of its own.
        rope: Whether it turns positions at all.
    """
    text = facts.text
    latent = text.int("kv_lora_rank")
    turned = text.int("qk_rope_head_dim", minimum=0)
    plain = text.int("qk_nope_head_dim", minimum=0)
    value = text.int("v_head_dim")
    query = text.opt_int("q_lora_rank")
    heads, hidden = facts.heads, facts.hidden
    width = heads * (plain + turned)
    bias = facts.flag("latent_bias")
    children: list[Module] = []
    if query:
        children += [
            Linear("fused_qkv_a_proj", hidden, (query, latent + turned), "none", bias=bias),
            Norm("q_a_layernorm", query, part="attention"),
            Linear("q_b_proj", query, (width,)),
        ]
    else:
        children += [
            Linear("kv_a_proj_with_mqa", hidden, (latent + turned,), "none", bias=bias),
            Linear("q_proj", hidden, (width,)),
        ]
    children += [
        Norm("kv_a_layernorm", latent, part="attention"),
        Linear("kv_b_proj", latent, (heads * (plain + value),)),
        Linear("o_proj", heads * value, (hidden,), "row", bias=bias),
    ]
    if indexer and text.opt_int("index_topk"):
        children.append(indexer_block(facts, query or hidden))
    if rope:
        children.append(rotary(facts, turned, width=turned, deepseek=True))
    children.append(AttentionScales(is_latent=True))
    return Block(facts.label("attention", "self_attn"), tuple(children), part="attention")


def indexer_block(facts: Facts, query: int) -> Block:
    """The indexer: replicated, its keys and weights in the model's dtype."""
    text = facts.text
    heads, width = text.int("index_n_heads"), text.int("index_head_dim")
    children: tuple[Module, ...] = (
        Linear("wq_b", query, (heads * width,), "none"),
        Linear("wk_weights_proj", facts.hidden, (width + heads,), "none", quantised=False),
        Weight("k_norm.weight", (width,), dtype="float32"),
        Weight("k_norm.bias", (width,), dtype="float32"),
    )
    return Block("indexer", children, part="indexer")


def layers_with_indexer(facts: Facts) -> frozenset[int]:
    """Layers that pick tokens themselves; others take an earlier layer's choice."""
    return frozenset(
        layer.index for layer in facts.description.layers if isinstance(layer, Indexer)
    )
