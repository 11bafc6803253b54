"""Plain attention: merged queries, keys and values, an output matrix, and what models add.

Source: vLLM 0.33 ``models/llama.py`` ``LlamaAttention`` and its many kin.
"""

from __future__ import annotations

from ..modules import AttentionScales, Block, Linear, Module, Norm, QKVLinear, Weight
from .facts import Facts
from .ropes import rotary


def attention(
    facts: Facts,
    *,
    heads: int | None = None,
    kv_heads: int | None = None,
    head_size: int | None = None,
    rope: Module | None = None,
    extra: tuple[Module, ...] = (),
) -> Block:
    """The attention block of a decoder layer.

    Options of the row: ``attention`` (its name), ``qkv``, ``o``, ``attn`` (names inside),
    ``qkv_bias``, ``o_bias``, ``qk_norm`` (``head``, ``full``, ``sharded``), ``qk_norm_bias``,
    ``gated_queries`` (queries twice as wide), ``rotary`` (false for none).

    Args:
        facts: The model.
        heads: Query heads, where layers differ.
        kv_heads: KV heads, where layers differ.
        head_size: Width of a head, where layers differ.
        rope: The rotary cache, where layers differ.
        extra: What else the block holds.
    """
    heads = facts.heads if heads is None else heads
    kv_heads = facts.kv_heads if kv_heads is None else kv_heads
    head_size = facts.head_size if head_size is None else head_size
    queries = heads * 2 if facts.flag("gated_queries") else heads
    children: list[Module] = [
        QKVLinear(
            facts.label("qkv", "qkv_proj"),
            facts.hidden,
            queries,
            kv_heads,
            head_size,
            bias=facts.flag("qkv_bias"),
        ),
        Linear(
            facts.label("o", "o_proj"),
            heads * head_size,
            (facts.hidden,),
            "row",
            bias=facts.flag("o_bias"),
        ),
        *qk_norms(facts, heads, kv_heads, head_size),
        *extra,
    ]
    if rope is None and facts.flag("rotary", True):
        dtype = facts.options.get("rotary_dtype")
        rope = rotary(facts, head_size, dtype=None if dtype is None else str(dtype))
    if rope is not None:
        children.append(rope)
    children.append(AttentionScales(facts.label("attn", "attn")))
    return Block(facts.label("attention", "self_attn"), tuple(children), part="attention")


def qk_norms(facts: Facts, heads: int, kv_heads: int, head_size: int) -> list[Module]:
    """Norms of queries and keys: per head, over all heads, or over this rank's."""
    kind = facts.options.get("qk_norm")
    if isinstance(kind, dict):  # a key of the config decides
        kind = kind["kind"] if facts.text.get(kind["key"]) else None
    names = facts.names("qk_norm_names", ("q_norm", "k_norm"))
    bias = facts.flag("qk_norm_bias")
    if kind == "head":
        return [Norm(name, head_size, bias, part="attention") for name in names]
    if kind == "full":
        sizes = (heads * head_size, kv_heads * head_size)
        return [
            Norm(name, size, bias, part="attention")
            for name, size in zip(names, sizes, strict=True)
        ]
    if kind == "sharded":
        counts = (heads, kv_heads)
        return [
            Weight(f"{name}.weight", (count, head_size), sharded=0)
            for name, count in zip(names, counts, strict=True)
        ]
    return []
