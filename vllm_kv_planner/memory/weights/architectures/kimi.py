"""Kimi-K3, GLM-5.3-Flash (delta and latent attention), MiniMax-M3 (attention to chosen blocks).

Source: vLLM 0.33 ``models/kimi_k3/``, ``models/glm5next/``, ``models/minimax_m3/``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....model.layers.delta_net import KimiDeltaAttention
from ....model.layers.latent import LatentAttention
from ....model.layers.sparse import MiniMaxSparseAttention
from ..experts import RoutedExperts
from ..modules import AttentionScales, Block, Heads, Linear, Module, Norm, Weight, unquantised
from .attention import attention, rotary
from .decoder import assemble
from .deepseek_v4 import hyper_connections
from .facts import Facts, WeightTree
from .feed_forward import feed_forward, num_experts, shared_experts
from .mixers import indexer_block, kimi_delta, latent_attention


def kimi_k3(facts: Facts) -> WeightTree:
    """Attention over earlier layers' residuals, experts in a narrower space.

    Kimi-Linear runs in the same class without those residuals, the latent's gate and low-rank
    queries, and with a low-rank gate in its delta layers (``models/kimi_k3/nvidia/model.py``).
    """
    hidden = facts.hidden
    has_residuals = facts.text.get("attn_res_block_size") is not None
    latent = _k3_latent(facts)
    after = feed_forward(facts, experts=_k3_experts(facts))
    delta = {
        layer.index: kimi_delta(facts, layer)
        for layer in facts.description.layers
        if isinstance(layer, KimiDeltaAttention)
    }
    residual = (
        Norm("self_attention_res_norm", hidden),
        Norm("mlp_res_norm", hidden),
        Linear("self_attention_res_proj", hidden, (1,), "none", quantised=False),
        Linear("mlp_res_proj", hidden, (1,), "none", quantised=False),
    )

    def layer(index: int) -> Sequence[Module]:
        extra = residual if has_residuals else ()
        return (delta.get(index, latent), after(index), *extra)

    last = (
        Norm("output_attn_res_norm", hidden),
        Linear("output_attn_res_proj", hidden, (1,), "none", quantised=False),
    )
    return assemble(facts, layer, last=last if has_residuals else ())


def _k3_latent(facts: Facts) -> Block:
    """Latent attention without positions, which may have a gate on what comes out."""
    text, heads, hidden = facts.text, facts.heads, facts.hidden
    latent, query = text.int("kv_lora_rank"), text.opt_int("q_lora_rank")
    turned, plain = text.int("qk_rope_head_dim", minimum=0), text.int("qk_nope_head_dim")
    value = text.int("v_head_dim")
    gate = (heads * value,) if text.bool("mla_use_output_gate", default=False) else ()
    width = heads * (plain + turned)
    queries: tuple[Module, ...] = (
        Linear("q_proj", hidden, (width,)),
        Linear("kv_a_proj_with_mqa", hidden, (latent + turned,), "none"),
        *(Linear("g_proj", hidden, (size,)) for size in gate),
    )
    if query is not None:
        name = "fused_qkv_a_g_proj" if gate else "fused_qkv_a_proj"
        queries = (
            Linear(name, hidden, (*gate, Heads(1, query), Heads(1, latent + turned))),
            Norm("q_a_layernorm", query, part="attention"),
            Linear("q_b_proj", query, (width,)),
        )
    children: tuple[Module, ...] = (
        *queries,
        Norm("kv_a_layernorm", latent, part="attention"),
        Linear("kv_b_proj", latent, (heads * (plain + value),)),
        Linear("o_proj", heads * value, (hidden,), "row"),
        *(Weight(name, (), dtype="float32") for name in ("_k_scale", "_v_scale", "_q_scale")),
        *(Weight(name, (1,), dtype="float32") for name in ("_prob_scale", "_one_scale")),
    )
    return Block("self_attn", children, part="attention")


def _k3_experts(facts: Facts) -> Block:
    text, hidden, options = facts.text, facts.hidden, facts.options["moe"]
    count, width = num_experts(facts), text.int("moe_intermediate_size")
    narrow = text.opt_int("routed_expert_hidden_size")
    children: list[Module] = [
        Linear("gate", hidden, (count,), "none", quantised=False),
        Weight("gate.e_score_correction_bias", (count,), dtype="float32"),
        *shared_experts(facts, options, width),
    ]
    if narrow:
        children += [
            Linear("routed_expert_down_proj", hidden, (narrow,), "none"),
            Linear("routed_expert_up_proj", narrow, (hidden,), "none"),
        ]
        if text.get("latent_moe_use_norm"):
            children.append(Norm("routed_expert_norm", narrow))
    children.append(RoutedExperts("experts", count, narrow or hidden, width, activation="situ"))
    return Block("block_sparse_moe", tuple(children), part="experts")


def glm5_next(facts: Facts) -> WeightTree:
    """Hyper-connections; sparse latents with an indexer over pooled keys.

    What attends is never quantised (models/glm5next/common/model.py and kda.py).
    """
    blocks: dict[int, Block] = {}
    latent = unquantised(_pooled_latent(facts))
    for cache in facts.description.layers:
        if isinstance(cache, KimiDeltaAttention):
            blocks[cache.index] = unquantised(kimi_delta(facts, cache))
        elif isinstance(cache, LatentAttention):
            blocks[cache.index] = latent
    after = feed_forward(facts)

    around = hyper_connections(facts)
    return assemble(facts, lambda index: (blocks[index], after(index), *around))


def _pooled_latent(facts: Facts) -> Block:
    block = latent_attention(facts, indexer=False, rope=False)
    text, hidden = facts.text, facts.hidden
    width, pool = text.int("index_head_dim", default=128), text.int("index_kpool", default=16)
    query = text.opt_int("q_lora_rank") or hidden
    inner = indexer_block(facts, query)
    pooled: tuple[Module, ...] = (
        Weight("index_kpool_compress_ape", (pool, width), dtype="float32"),
        Weight("index_kpool_compress_gate", (width, hidden)),
    )
    indexer = Block("indexer", (*inner.children, *pooled), part="indexer")
    return Block("self_attn", (*block.children, indexer), part="attention")


def minimax_m3(facts: Facts) -> WeightTree:
    """Sparse layers project index queries and keys beside their own."""
    text, size = facts.text, facts.head_size
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
    kv = Heads(facts.kv_heads, size)
    merged = (kv, kv, Heads(heads, width), Heads(1, width))
    children: tuple[Module, ...] = (
        Linear("qkv_proj", facts.hidden, (facts.heads * size, *merged), takes_lora=False),
        Linear("o_proj", facts.heads * size, (facts.hidden,), "row"),
        *(Norm(name, size, part="attention") for name in names),
        *(Norm(name, width, part="attention") for name in index_names),
        rotary(facts, size),
        AttentionScales(""),
    )
    sparse_attention = Block("self_attn", children, part="attention")
    plain, after = attention(facts), feed_forward(facts)
    return assemble(
        facts, lambda index: (sparse_attention if index in chosen else plain, after(index))
    )
