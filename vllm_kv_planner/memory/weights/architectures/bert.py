"""BERT and RoBERTa as encoders of text.

Source: vLLM 0.33 ``models/bert.py``, ``models/roberta.py``.
"""

from __future__ import annotations

from ..modules import (
    AttentionScales,
    Block,
    Linear,
    Module,
    Norm,
    QKVLinear,
    TokenEmbedding,
    Weight,
)
from .facts import Facts
from .tree import WeightTree


def bert(facts: Facts) -> WeightTree:
    """Three embeddings, then layers of attention and MLP, each with a norm behind it."""
    text, hidden = facts.text, facts.hidden
    positions = text.int("max_position_embeddings")
    types = text.int("type_vocab_size", default=2)
    embeddings: tuple[Module, ...] = (
        TokenEmbedding("word_embeddings", facts.vocab_size, hidden),
        TokenEmbedding("position_embeddings", positions, hidden),
        TokenEmbedding("token_type_embeddings", types, hidden),
        Norm("LayerNorm", hidden, True),
        Weight("position_ids", (1, positions), dtype="int64"),
    )
    heads = facts.heads
    attention: tuple[Module, ...] = (
        QKVLinear("self.qkv_proj", hidden, heads, heads, hidden // heads, bias=True),
        Linear("output.dense", hidden, (hidden,), "row", bias=True),
        Norm("output.LayerNorm", hidden, True),
        AttentionScales("self.attn"),
    )
    inner = facts.intermediate
    layer: tuple[Module, ...] = (
        Block("attention", attention, "attention"),
        Linear("intermediate.dense", hidden, (inner,), bias=True),
        Linear("output.dense", inner, (hidden,), "row", bias=True),
        Norm("output.LayerNorm", hidden, True),
    )
    return WeightTree(
        embedding=(Block("model.embeddings", embeddings, "embedding"),),
        layers=tuple(
            Block(f"model.encoder.layer.{index}", layer, "mlp") for index in range(facts.num_layers)
        ),
    )
