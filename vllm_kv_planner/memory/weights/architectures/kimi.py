"""Kimi-K3 and GLM-5.3-Flash: delta attention beside latent attention.

Source: vLLM 0.33 ``models/kimi_k3/``, ``models/glm5next/``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....model.layers.delta_net import KimiDeltaAttention
from ....model.layers.latent import LatentAttention
from ..modules import Block, Linear, Module, Norm, RoutedExperts, Weight
from .decoder import assemble
from .deepseek_v4 import hyper_connection
from .facts import Facts
from .feed_forward import is_sparse, mlp, moe, num_experts, shared_experts
from .latent import indexer_block, latent_attention
from .mixers import kimi_delta
from .tree import WeightTree


def kimi_k3(facts: Facts) -> WeightTree:
    """Attention over earlier layers' residuals, experts in a narrower space.

    Kimi-Linear runs in the same class without those residuals, the latent's gate and low-rank
    queries, and with a low-rank gate in its delta layers (``models/kimi_k3/nvidia/model.py``).
    """
    hidden, options = facts.hidden, facts.options["moe"]
    has_residuals = facts.text.get("attn_res_block_size") is not None
    latent = _k3_latent(facts)
    dense, experts = mlp(facts), _k3_experts(facts)
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
        block = delta.get(index, latent)
        sparse = is_sparse(facts, options, index)
        return (block, experts if sparse else dense, *(residual if has_residuals else ()))

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
            Linear(name, hidden, gate, replicated=(query, latent + turned)),
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
    """Hyper-connections; sparse latents with an indexer over pooled keys."""
    text, hidden, options = facts.text, facts.hidden, facts.options["moe"]
    blocks: dict[int, Block] = {}
    latent = _pooled_latent(facts)
    for cache in facts.description.layers:
        if isinstance(cache, KimiDeltaAttention):
            blocks[cache.index] = kimi_delta(facts, cache)
        elif isinstance(cache, LatentAttention):
            blocks[cache.index] = latent
    dense, experts = mlp(facts), moe(facts, options)
    streams = text.int("hc_mult", default=4)

    def layer(index: int) -> Sequence[Module]:
        return (
            blocks[index],
            experts if is_sparse(facts, options, index) else dense,
            *hyper_connection("hc_attn", streams, hidden),
            *hyper_connection("hc_ffn", streams, hidden),
        )

    return assemble(facts, layer)


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
