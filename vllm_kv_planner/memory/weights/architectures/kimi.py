"""Kimi-K3, GLM-5.3-Flash (delta and latent attention), MiniMax-M3 (attention to chosen blocks).

Source: vLLM 0.33 ``models/kimi_k3/``, ``models/glm5next/``, ``models/minimax_m3/``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ....model.layers.delta_net import KimiDeltaAttention
from ....model.layers.latent import LatentAttention
from ....model.layers.sparse import MiniMaxSparseAttention
from ....records import dataclass
from ..experts import RoutedExperts
from ..modules import AttentionScales, Block, Linear, Module, Norm, Weight
from ..quantization.base import LinearShape
from ..rank import Place, Tensor
from .attention import attention, rotary
from .decoder import assemble
from .deepseek_v4 import hyper_connection
from .facts import Facts, WeightTree
from .feed_forward import is_sparse, mlp, moe, num_experts, shared_experts
from .mixers import indexer_block, kimi_delta, latent_attention


@dataclass(frozen=True)
class IndexedQKV:
    """Index queries are divided like KV heads, the one index key is replicated.

    Attributes:
        name: As vLLM names it.
        inputs: Width of the hidden state.
        heads: Query heads of the whole model.
        kv_heads: KV heads of the whole model.
        head_size: Width of a head.
        index_heads: Index queries of the whole model.
        index_size: Width of an index query and key.
    """

    name: str
    inputs: int
    heads: int
    kv_heads: int
    head_size: int
    index_heads: int
    index_size: int

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """Weights by the quantisation method's rule."""
        inside = place.at(self.name)
        size = place.rank.tensor_parallel_size
        kv = max(1, self.kv_heads // size) * self.head_size
        index = max(1, self.index_heads // size) * self.index_size
        outputs = (self.heads // size * self.head_size, kv, kv, index, self.index_size)
        shape = LinearShape(
            inside.prefix, self.inputs, outputs, self.inputs, sum(outputs) * size, place.rank.dtype
        )
        method = place.rank.quantization.linear(inside.prefix)
        if method is None:
            yield inside.tensor("weight", (sum(outputs), self.inputs))
        else:
            for suffix, dimensions, dtype in method.linear(shape):
                yield inside.tensor(suffix, dimensions, dtype)


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
