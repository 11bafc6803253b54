"""MiniMax-M3: plain attention in some layers, attention to chosen blocks in the rest.

Source: vLLM 0.33 ``models/minimax_m3/``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....model.layers.sparse import MiniMaxSparseAttention
from ..modules import AttentionScales, Block, Linear, Module, Norm
from ..modules.indexed import IndexedQKV
from .attention import attention
from .decoder import assemble
from .facts import Facts
from .feed_forward import is_sparse, mlp, moe
from .ropes import rotary
from .tree import WeightTree


def minimax_m3(facts: Facts) -> WeightTree:
    """Sparse layers project index queries and keys beside their own."""
    text, size, options = facts.text, facts.head_size, facts.options["moe"]
    chosen = {
        layer.index
        for layer in facts.description.layers
        if isinstance(layer, MiniMaxSparseAttention)
    }
    given = text.opt_sub("sparse_attention_config")
    heads = 4 if given is None else given.int("sparse_num_index_heads", default=4)
    width = 128 if given is None else given.int("sparse_index_dim", default=128)
    names = ("q_norm", "k_norm")
    index_names = ("index_q_norm", "index_k_norm")
    children: tuple[Module, ...] = (
        IndexedQKV("qkv_proj", facts.hidden, facts.heads, facts.kv_heads, size, heads, width),
        Linear("o_proj", facts.heads * size, (facts.hidden,), "row"),
        *(Norm(name, size, part="attention") for name in names),
        *(Norm(name, width, part="attention") for name in index_names),
        rotary(facts, size),
        AttentionScales(""),
    )
    sparse_attention = Block("self_attn", children, part="attention")
    plain = attention(facts)
    dense = mlp(facts, width=text.int("dense_intermediate_size", "intermediate_size"))
    experts = moe(facts, options)

    def layer(index: int) -> Sequence[Module]:
        return (
            sparse_attention if index in chosen else plain,
            experts if is_sparse(facts, options, index) else dense,
        )

    return assemble(facts, layer)
