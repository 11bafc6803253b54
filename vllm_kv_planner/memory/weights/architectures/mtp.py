"""Layers for multi-token prediction, which lie in the target's own checkpoint.

What they share with the target (embedding, head, rotary cache) is not counted again.
Source: vLLM 0.33 ``models/deepseek_mtp.py``, ``glm4_moe_mtp.py``, ``qwen3_next_mtp.py``,
``qwen3_5_mtp.py``, ``mimo_mtp.py``, ``ernie_mtp.py``, ``nemotron_h_mtp.py``,
``models/deepseek_v4/nvidia/mtp.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....errors import UnsupportedError
from ..modules import Block, Linear, Module, Norm, TokenEmbedding
from . import text_row
from .attention import attention, rotary
from .deepseek_v4 import mtp_layers
from .facts import Facts
from .feed_forward import mlp, moe, moe_options
from .hybrid import nemotron_experts
from .mixers import latent_attention


def mtp(facts: Facts, *, over_stages: bool = False) -> Sequence[Module]:
    """Layers that predict further tokens, as the target's family builds them.

    Args:
        facts: The target.
        over_stages: Whether its embedding lies on another stage: the draft then keeps its own.

    Raises:
        UnsupportedError: The family has none, or nobody wrote its rule.
    """
    row = text_row(facts.description.architecture)
    kind = None if row is None else row.get("mtp")
    if row is None or kind is None:
        raise UnsupportedError(
            f"weights of {facts.description.architecture}'s MTP layers are not known to the "
            "stand-alone planner; --planner vllm can answer"
        )
    inner = facts.with_options({**row, "rotary": False})
    modules: list[Module] = list(_RULES[kind](inner))
    if over_stages and kind != "nemotron":
        modules.append(own_embedding(facts))
    return modules


def own_embedding(facts: Facts) -> Module:
    """The token embedding where the target's is out of reach."""
    return TokenEmbedding("model.embed_tokens", facts.vocab_size, facts.hidden, part="draft")


def _count(facts: Facts) -> int:
    return facts.text.int("num_nextn_predict_layers", "mtp_num_hidden_layers", default=1)


def _deepseek(facts: Facts) -> Sequence[Module]:
    """Norms of embedding and hidden state, a projection of both, a sparse layer."""
    hidden = facts.hidden
    options = moe_options(facts)
    block = latent_attention(facts, rope=False) if facts.description.use_mla else attention(facts)
    inner: tuple[Module, ...] = (
        block,
        mlp(facts) if options is None else moe(facts, options),
        Norm("input_layernorm", hidden),
        Norm("post_attention_layernorm", hidden),
    )
    return [
        Block(
            f"model.layers.{facts.num_layers + number}",
            (
                Norm("enorm", hidden),
                Norm("hnorm", hidden),
                Linear("eh_proj", 2 * hidden, (hidden,), "none", quantised=False),
                Norm("shared_head.norm", hidden),
                Block("mtp_block", inner),
            ),
            "draft",
        )
        for number in range(_count(facts))
    ]


def _qwen(facts: Facts) -> Sequence[Module]:
    """One projection and final norm for all layers, which attend in full."""
    hidden = facts.hidden
    options = moe_options(facts)
    inner: tuple[Module, ...] = (
        attention(facts),
        mlp(facts) if options is None else moe(facts, options),
        Norm("input_layernorm", hidden),
        Norm("post_attention_layernorm", hidden),
    )
    return [
        Linear("mtp.fc", 2 * hidden, (hidden,), quantised=False),
        *(Block(f"mtp.layers.{number}", inner, "draft") for number in range(_count(facts))),
        Norm("mtp.norm", hidden),
        Norm("mtp.pre_fc_norm_hidden", hidden),
        Norm("mtp.pre_fc_norm_embedding", hidden),
    ]


def _mimo(facts: Facts) -> Sequence[Module]:
    """Norms of embedding and hidden state, a projection of both, a dense layer, a norm."""
    hidden = facts.hidden
    return [
        Block(
            f"model.mtp_layers.{facts.num_layers + number}",
            (
                Norm("token_layernorm", hidden),
                Norm("hidden_layernorm", hidden),
                Linear("input_proj", 2 * hidden, (hidden,), "none", quantised=False),
                _dense_layer(facts),
                Norm("final_layernorm", hidden),
            ),
            "draft",
        )
        for number in range(_count(facts))
    ]


def _ernie(facts: Facts) -> Sequence[Module]:
    """The same without a norm behind it; Llama's layer, which turns positions in another way."""
    hidden = facts.hidden
    rope = rotary(facts, facts.head_size, variant="mtp")
    return [
        Block(
            f"model.layers.{facts.num_layers + number}",
            (
                Norm("mtp_emb_norm", hidden),
                Norm("mtp_hidden_norm", hidden),
                Linear("mtp_linear_proj", 2 * hidden, (hidden,), "none", quantised=False),
                _dense_layer(facts, rope),
            ),
            "draft",
        )
        for number in range(_count(facts))
    ]


def _dense_layer(facts: Facts, rope: Module | None = None) -> Block:
    norms = ("input_layernorm", "post_attention_layernorm")
    block = attention(facts, rope=rope)
    return Block("mtp_block", (block, mlp(facts), *(Norm(name, facts.hidden) for name in norms)))


def _nemotron(facts: Facts) -> Sequence[Module]:
    """Blocks of attention or experts; the first projects, the last has a norm more."""
    hidden, text = facts.hidden, facts.text
    pattern = text.opt_str("mtp_hybrid_override_pattern")
    listed = text.list_of_strs("mtp_layers_block_type", default=("attention", "moe"))
    kinds = ["attention" if c == "*" else "moe" for c in pattern] if pattern else listed
    modules: list[Module] = []
    for number, kind in enumerate(kinds):
        children: list[Module] = [
            nemotron_experts(facts) if kind == "moe" else attention(facts),
            Norm("norm", hidden),
        ]
        if number == 0:
            children += [
                Norm("enorm", hidden),
                Norm("hnorm", hidden),
                Linear("eh_proj", 2 * hidden, (hidden,)),
            ]
        if number == len(kinds) - 1:
            children.append(Norm("final_layernorm", hidden))
        modules.append(Block(f"mtp.layers.{number}", tuple(children), "draft"))
    return modules


_RULES = {
    "deepseek": _deepseek,
    "deepseek_v4": mtp_layers,
    "ernie": _ernie,
    "mimo": _mimo,
    "nemotron": _nemotron,
    "qwen": _qwen,
}
