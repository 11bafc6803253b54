"""Draft models: layers for multi-token prediction in the checkpoint itself, and EAGLE's.

What a draft shares with its target (embedding, head, rotary cache) is not counted again.
Source: vLLM 0.33 ``models/deepseek_mtp.py``, ``glm4_moe_mtp.py``, ``qwen3_next_mtp.py``,
``qwen3_5_mtp.py``, ``models/deepseek_v4/nvidia/mtp.py``, ``llama_eagle.py``, ``llama_eagle3.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....errors import UnsupportedError
from ....records import replace
from ..modules import Block, Linear, LMHead, Module, Norm, QKVLinear, Weight
from .attention import attention
from .deepseek_v4 import mtp_layers
from .facts import Facts
from .families import family, text_row
from .feed_forward import mlp, moe, moe_options
from .latent import latent_attention


def mtp(facts: Facts) -> Sequence[Module]:
    """Layers that predict further tokens, as the target's family builds them.

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
    return _RULES[kind](inner)


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
        Linear("model.fc", 2 * hidden, (hidden,), quantised=False),
        *(Block(f"model.layers.{number}", inner, "draft") for number in range(_count(facts))),
        Norm("model.norm", hidden),
        Norm("model.pre_fc_norm_hidden", hidden),
        Norm("model.pre_fc_norm_embedding", hidden),
    ]


def eagle(facts: Facts, target: Facts, method: str) -> Sequence[Module]:
    """EAGLE and EAGLE-3 over Llama's layers.

    Args:
        facts: The draft model.
        target: The model it drafts for.
        method: ``eagle`` or ``eagle3``.

    Raises:
        UnsupportedError: The draft is no Llama.
    """
    row = family("LlamaForCausalLM") or {}
    facts = facts.with_options({**row, "rotary": False})
    hidden, is_third = facts.hidden, method == "eagle3"
    block = attention(facts)
    if is_third:  # queries, keys and values of embedding and hidden state together
        children = tuple(
            replace(child, inputs=2 * hidden) if isinstance(child, QKVLinear) else child
            for child in block.children
        )
        block = Block(block.name, children, block.part)
    norms = ("input_layernorm", "post_attention_layernorm")
    inner: tuple[Module, ...] = (
        block,
        mlp(facts),
        *(Norm(name, hidden) for name in (*norms, *(("hidden_norm",) if is_third else ()))),
    )
    states = _aux_states(facts.text.data) if is_third else 2
    wide = facts.text.int("target_hidden_size", default=hidden) if is_third else hidden
    modules: list[Module] = [
        Linear("model.fc", states * wide, (hidden,), "none", quantised=False),
        *(Block(f"model.layers.{number}", inner, "draft") for number in range(facts.num_layers)),
    ]
    if is_third:
        own = facts.text.int("draft_vocab_size", default=facts.vocab_size)
        modules += [Norm("model.norm", hidden), LMHead("lm_head", own, hidden)]
        if own != target.vocab_size:
            modules.append(Weight("draft_id_to_target_id", (own,), dtype="int64"))
    return modules


def _aux_states(config: Mapping[str, Any]) -> int:
    stated = config.get("num_aux_hidden_states")
    if isinstance(stated, int):
        return stated
    inner = config.get("eagle_config")
    listed = inner.get("eagle_aux_hidden_state_layer_ids") if isinstance(inner, Mapping) else None
    return len(listed) if isinstance(listed, list) and listed else 3


_RULES = {"deepseek": _deepseek, "deepseek_v4": mtp_layers, "qwen": _qwen}
