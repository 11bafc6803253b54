"""Plain attention: merged queries, keys and values, an output matrix, and its rope.

Source: vLLM 0.33 ``models/llama.py`` ``LlamaAttention`` and its many kin;
``layers/rotary_embedding/__init__.py`` ``get_rope`` and the classes it picks;
``transformers_utils/config.py`` ``patch_rope_parameters``; transformers 5.20
``modeling_rope_utils.py`` ``standardize_rope_params``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ....model.config import Config
from ..modules import AttentionScales, Block, Linear, Module, Norm, Rotary, Weight, qkv_linear
from .facts import Facts

_SAME_LENGTH = frozenset({"default", "llama3", "dynamic", "ntk", "proportional", "mrope", ""})


def rope_parameters(text: Config, layer_type: str | None = None) -> Mapping[str, Any]:
    """``rope_parameters`` of the config, of one type of layer where it has several."""
    found: Mapping[str, Any] | None = None
    for key in ("rope_parameters", "rope_scaling"):
        value = text.get(key)
        if isinstance(value, Mapping):
            found = value
            break
    if found is None:
        return {}
    if any(isinstance(value, Mapping) for value in found.values()):
        own = found.get(layer_type or "full_attention")
        return own if isinstance(own, Mapping) else {}
    return found


def rotary(
    facts: Facts,
    head_size: int,
    *,
    layer_type: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    max_position: int | None = None,
    width: int | None = None,
    deepseek: bool = False,
    dtype: str | None = None,
    variant: str = "",
    name: str = "rotary_emb",
) -> Rotary:
    """The cache of one kind of layer.

    ``head_size``: what ``partial_rotary_factor`` takes a part of. ``layer_type``: whose parameters,
    where layers differ. ``parameters``: instead of the config's. ``max_position``: instead of the
    config's ``max_position_embeddings``. ``deepseek``: the class keeps to
    ``original_max_position_embeddings`` times ``factor``. ``dtype``: of the cache, where it is not
    the engine's. ``variant``: tells ropes of equal size apart.
    """
    text = facts.text
    found = rope_parameters(text, layer_type) if parameters is None else parameters
    given = Config(found, text.where, prefix=f"{text.prefix}rope_parameters.")
    kind = given.str("rope_type", "type", default="default")
    keys = facts.label("max_position", "max_position_embeddings|max_sequence_length").split("|")
    limit = max_position or text.int(*keys, default=8192)
    if width is None:
        width = _width(facts, given, head_size)
    original = given.int("original_max_position_embeddings", default=limit)
    factor = given.float("factor", default=1.0, maximum=1e6)
    rows = limit
    if given.has("mrope_section"):
        rows = (original if kind == "yarn" else limit) * _position_factor(facts)
        if kind == "yarn":
            rows = math.ceil(rows * factor)
    elif kind == "yarn" or (deepseek and kind not in _SAME_LENGTH):
        rows = math.ceil(original * factor)
    elif kind == "linear":
        rows = math.ceil(limit * factor)
    elif kind in ("longrope", "su"):
        rows = limit + given.int(
            "original_max_position_embeddings",
            default=text.int("original_max_position_embeddings", default=limit),
        )
    return Rotary(rows=rows, width=width, dtype=dtype, variant=variant, name=name)


def _position_factor(facts: Facts) -> int:
    """How much longer than the context multimodal positions may grow.

    Up to 0.31 every model made room for four times the context; from 0.32 on Qwen3-VL and later
    keep to it. Source: ``layers/rotary_embedding/mrope.py`` ``MRotaryEmbedding.__init__`` of 0.20,
    0.22, 0.28 to 0.33; engines with Qwen3.5 on 0.19 to 0.28 printed 0.09 to 0.11 GiB more.
    """
    return 4 if facts.version <= (0, 31) else int(facts.options.get("mrope_factor", 4))


def _width(facts: Facts, given: Config, head_size: int) -> int:
    stated = given.opt_int("rope_dim") or facts.text.opt_int("rotary_dim")
    if stated is not None:
        return stated
    share = given.opt_float("partial_rotary_factor", maximum=1.0)
    if share is None:
        keys = ("partial_rotary_factor", "rotary_pct", "rotary_emb_fraction")
        share = facts.text.opt_float(*keys, maximum=1.0)
    if share is None:
        share = float(facts.options.get("partial_rotary", 1.0))
    return int(head_size * share)


def attention(
    facts: Facts,
    *,
    heads: int | None = None,
    kv_heads: int | None = None,
    head_size: int | None = None,
    rope: Module | None = None,
    extra: tuple[Module, ...] = (),
) -> Block:
    """The attention block of a decoder layer; ``heads`` to ``rope`` are given where layers differ.

    Options of the row: ``attention`` (its name), ``qkv``, ``o``, ``attn`` (names inside),
    ``qkv_bias``, ``o_bias``, ``qk_norm`` (``head``, ``full``, ``sharded``), ``qk_norm_bias``,
    ``gated_queries`` (queries twice as wide), ``rotary`` (false for none), ``sinks``.
    """
    heads = facts.heads if heads is None else heads
    kv_heads = facts.kv_heads if kv_heads is None else kv_heads
    head_size = facts.head_size if head_size is None else head_size
    queries = heads * 2 if facts.flag("gated_queries") else heads
    children: list[Module] = [
        qkv_linear(
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
    if facts.flag("sinks"):
        children.append(Weight("sinks", (heads,), sharded=0))
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
