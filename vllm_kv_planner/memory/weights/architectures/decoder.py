"""A decoder: embedding, layers of attention and MLP (or experts), final norm, head.

The row of ``families.json`` says what the class adds or leaves out; see ``attention.py`` and
``feed_forward.py`` for their options. Options here: ``body`` (path of the layers' parent),
``layers``, ``embed``, ``final_norm``, ``embed_norm`` (names), ``norms`` (names in a layer),
``norm_bias``,
``positions`` (learned: name, config key of rows, rows added, whether embedding-sized), ``head``
(name), ``head_bias``, ``buffers`` (single values), ``on_every_stage`` (see ``WeightTree``),
``inv_freq`` (Transformers' own rope; beginnings of names where there are several), ``mask`` (a
square of positions).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ....model.layers.sparse import Indexer
from ..modules import Block, LMHead, Module, Norm, TokenEmbedding, Weight
from .attention import attention
from .facts import Facts, WeightTree
from .feed_forward import feed_forward, mlp
from .mixers import latent_attention

MakeLayer = Callable[[int], Sequence[Module]]


def decoder(facts: Facts) -> WeightTree:
    """Every layer: plain attention, then an MLP or experts."""
    block, after = attention(facts), feed_forward(facts)
    return assemble(facts, lambda index: (block, after(index)))


def latent_decoder(facts: Facts) -> WeightTree:
    """Every layer: latent attention, then an MLP or experts.

    Layers without an indexer of their own take an earlier layer's choice of tokens.
    """
    indexed = {each.index for each in facts.description.layers if isinstance(each, Indexer)}
    blocks = {own: latent_attention(facts, indexer=own) for own in (True, False)}
    after = feed_forward(facts)
    return assemble(facts, lambda index: (blocks[index in indexed], after(index)))


def falcon(facts: Facts) -> WeightTree:
    """Falcon: attention and MLP side by side, with a norm for both or one for each.

    Source: ``models/falcon.py`` ``FalconDecoderLayer``.
    """
    text = facts.text
    wide = text.int("ffn_hidden_size", default=4 * facts.hidden)
    block, dense = attention(facts), mlp(facts, width=wide)
    names = ["input_layernorm"]
    if text.get("new_decoder_architecture"):
        if text.opt_int("num_ln_in_parallel_attn") != 1:
            names = ["ln_attn", "ln_mlp"]
    elif not text.get("parallel_attn"):
        names.append("post_attention_layernorm")
    norms = [Norm(name, facts.hidden, bias=True) for name in names]
    return assemble(facts, lambda index: (block, dense, *norms), norms=False)


def assemble(
    facts: Facts,
    layer: MakeLayer,
    *,
    first: Sequence[Module] = (),
    last: Sequence[Module] = (),
    everywhere: Sequence[Module] = (),
    num_layers: int | None = None,
    norms: bool = True,
) -> WeightTree:
    """The parts of a decoder around its layers.

    ``layer``: modules of the layer of an index, its norms apart. ``first``: what the first stage
    builds beside the embedding. ``last``: what the last stage builds beside norm and head.
    ``norms``: whether every layer has the row's ``norms``.
    """
    body = facts.label("body", "model")
    inside = _under(facts.prefix, body)
    bias = facts.flag("norm_bias")
    names = facts.names("norms", ("input_layernorm", "post_attention_layernorm")) if norms else ()
    layer_norms = tuple(Norm(name, facts.hidden, bias) for name in names)
    stem = facts.label("layers", "layers")
    count = facts.num_layers if num_layers is None else num_layers
    layers = tuple(
        inside(Block(f"{stem}.{index}", (*layer(index), *layer_norms))) for index in range(count)
    )
    embedding = TokenEmbedding(
        facts.label("embed", "embed_tokens"), facts.vocab_size, embedding_width(facts)
    )
    tied = facts.tied()
    final_norm = facts.options.get("final_norm", "norm")
    final = [Norm(str(final_norm), facts.hidden, bias)] if final_norm else []
    return WeightTree(
        embedding=(inside(embedding),),
        first=tuple(inside(module) for module in (*_beside_embedding(facts), *first)),
        layers=layers,
        last=tuple(inside(module) for module in (*final, *last)),
        head=None if tied else _head(facts),
        everywhere=tuple(inside(module) for module in (*_buffers(facts), *everywhere)),
        tied=tied,
        on_every_stage=frozenset(facts.names("on_every_stage", ())),
    )


def embedding_width(facts: Facts) -> int:
    """Width of the embedding; OPT's may differ from the hidden state's."""
    return facts.text.opt_int("word_embed_proj_dim") or facts.hidden


def _under(prefix: str, name: str) -> Callable[[Module], Module]:
    path = f"{prefix}.{name}" if prefix and name else prefix or name
    return lambda module: Block(path, (module,))


def _head(facts: Facts) -> Module | None:
    """The output head; None for classes that return hidden states, and for pooling.

    Source: ``models/adapters.py`` ``_create_pooling_model_cls``.
    """
    if facts.options.get("head") is False or facts.description.runner_type == "pooling":
        return None
    head = LMHead(
        facts.label("head", "lm_head"),
        facts.vocab_size,
        embedding_width(facts),
        bias=facts.flag("head_bias"),
    )
    return _under(facts.prefix, "")(head)


def _buffers(facts: Facts) -> list[Module]:
    """What every stage keeps beside parameters: single values, rope frequencies, the mask."""
    buffers: list[Module] = [Weight(str(name), ()) for name in facts.names("buffers", ())]
    if facts.options.get("inv_freq"):
        buffers += _inv_freq(facts)
    if name := facts.options.get("mask"):
        rows = facts.text.int("max_position_embeddings", "n_positions")
        buffers.append(Weight(str(name), (rows, rows), dtype="bool"))
    return buffers


def _beside_embedding(facts: Facts) -> list[Module]:
    if name := facts.options.get("embed_norm"):
        return [Norm(str(name), facts.hidden, bias=True)]
    found: Any = facts.options.get("positions")
    if not isinstance(found, dict):
        return []
    rows = facts.text.int(*str(found["rows"]).split("|")) + int(found.get("extra", 0))
    return [
        TokenEmbedding(str(found["name"]), rows, facts.hidden, sharded=bool(found.get("sharded")))
    ]


def _inv_freq(facts: Facts) -> list[Module]:
    """``inv_freq`` and its copy, of models that run through Transformers' own code."""
    share = facts.text.opt_float("partial_rotary_factor", "rotary_pct", maximum=1.0)
    if share is None:
        share = float(facts.options.get("inv_freq_share", 1.0))
    width = int(facts.head_size * share) // 2
    kinds = facts.options["inv_freq"]
    return [
        Weight(f"rotary_emb.{kind}{name}", (width,), dtype="float32")
        for kind in (kinds if isinstance(kinds, list) else [""])
        for name in ("inv_freq", "original_inv_freq")
    ]
