"""Whisper: an encoder for sound, and a decoder that attends to it.

Source: vLLM 0.33 ``models/whisper.py``.
"""

from __future__ import annotations

from ..modules import (
    AttentionScales,
    Block,
    Linear,
    Module,
    Norm,
    TokenEmbedding,
    Weight,
    attention_pair,
    mlp_pair,
)
from .facts import Facts, WeightTree


def whisper(facts: Facts) -> WeightTree:
    """Both halves; one rank's share of everything, as it knows no pipeline stages."""
    text = facts.text
    hidden = text.int("d_model", "hidden_size")
    bins = text.int("num_mel_bins", default=80)
    rows, tokens = text.int("max_source_positions"), text.int("max_target_positions")
    encoder: tuple[Module, ...] = (
        Weight("conv1.weight", (hidden, bins, 3)),
        Weight("conv1.bias", (hidden,)),
        Weight("conv2.weight", (hidden, hidden, 3)),
        Weight("conv2.bias", (hidden,)),
        *(
            _layer(f"layers.{i}", facts, hidden, "encoder")
            for i in range(text.int("encoder_layers"))
        ),
        Norm("layer_norm", hidden, True),
        Weight("embed_positions.weight", (rows, hidden)),
    )
    layers = tuple(
        Block("model.decoder", (_layer(f"layers.{i}", facts, hidden, "decoder"),))
        for i in range(text.int("decoder_layers"))
    )
    embedding = TokenEmbedding("embed_tokens", facts.vocab_size, hidden, sharded=False)
    rest: tuple[Module, ...] = (
        Weight("embed_positions.weight", (tokens, hidden)),
        Norm("layer_norm", hidden, True),
    )
    return WeightTree(
        embedding=(Block("model.decoder", (embedding,)),),
        layers=layers,
        last=(Block("model.decoder", rest),),
        everywhere=(Block("model.encoder", encoder, "audio"),),
        tied=True,
    )


def _layer(name: str, facts: Facts, hidden: int, side: str) -> Block:
    heads = facts.text.int(f"{side}_attention_heads")
    inner = facts.text.int(f"{side}_ffn_dim")
    attention: list[Module] = [*attention_pair("qkv_proj", "out_proj", hidden, heads, bias=True)]
    children: list[Module] = [
        Norm("self_attn_layer_norm", hidden, True),
        Norm("final_layer_norm", hidden, True),
        Block("mlp", mlp_pair("fc1", "fc2", hidden, inner, bias=True)),
    ]
    if side == "decoder":
        attention.append(AttentionScales())
        cross: tuple[Module, ...] = (
            Linear("q_proj", hidden, (hidden,), bias=True),
            Linear("kv_proj", hidden, (hidden, hidden), bias=True),
            Linear("out_proj", hidden, (hidden,), "row", bias=True),
            AttentionScales(),
        )
        children.append(Block("encoder_attn", cross, part="attention"))
        children.append(Norm("encoder_attn_layer_norm", hidden, True))
    children.append(Block("self_attn", tuple(attention), part="attention"))
    return Block(name, tuple(children))
