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

    ``over_stages``: whether its embedding lies on another stage: the draft then keeps its own.

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


def _layer(facts: Facts, *, rope: Module | None = None, dense: bool = False) -> tuple[Module, ...]:
    """A decoder layer, with experts wherever the model has some."""
    options = None if dense else moe_options(facts)
    latent = facts.description.use_mla and not dense
    return (
        latent_attention(facts, rope=False) if latent else attention(facts, rope=rope),
        mlp(facts) if options is None else moe(facts, options),
        Norm("input_layernorm", facts.hidden),
        Norm("post_attention_layernorm", facts.hidden),
    )


def _numbered(
    facts: Facts, stem: str, norms: tuple[str, ...], projection: str, layer: tuple[Module, ...]
) -> Sequence[Module]:
    """Norms (the first two of embedding and hidden state), a projection of both, a layer."""
    hidden = facts.hidden
    children: tuple[Module, ...] = (
        *(Norm(name, hidden) for name in norms),
        Linear(projection, 2 * hidden, (hidden,), "none", quantised=False),
        Block("mtp_block", layer),
    )
    return [
        Block(f"{stem}.{facts.num_layers + number}", children, "draft")
        for number in range(_count(facts))
    ]


def _deepseek(facts: Facts) -> Sequence[Module]:
    names = ("enorm", "hnorm", "shared_head.norm")
    return _numbered(facts, "model.layers", names, "eh_proj", _layer(facts))


def _mimo(facts: Facts) -> Sequence[Module]:
    names = ("token_layernorm", "hidden_layernorm", "final_layernorm")
    layer = _layer(facts, dense=True)
    return _numbered(facts, "model.mtp_layers", names, "input_proj", layer)


def _ernie(facts: Facts) -> Sequence[Module]:
    """Llama's layer, which turns positions in another way than the target's."""
    layer = _layer(facts, rope=rotary(facts, facts.head_size, variant="mtp"), dense=True)
    names = ("mtp_emb_norm", "mtp_hidden_norm")
    return _numbered(facts, "model.layers", names, "mtp_linear_proj", layer)


def _qwen(facts: Facts) -> Sequence[Module]:
    """One projection and final norm for all layers, which attend in full."""
    hidden, inner = facts.hidden, _layer(facts)
    return [
        Linear("mtp.fc", 2 * hidden, (hidden,), quantised=False),
        *(Block(f"mtp.layers.{number}", inner, "draft") for number in range(_count(facts))),
        Norm("mtp.norm", hidden),
        Norm("mtp.pre_fc_norm_hidden", hidden),
        Norm("mtp.pre_fc_norm_embedding", hidden),
    ]


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
