"""EAGLE and EAGLE-3: one or a few layers that read the target's hidden states.

Embedding and head are the target's unless the draft has other words, or pipeline stages part
them; the rotary cache is its own unless the target's is just the same.

Source: vLLM 0.33 ``models/llama_eagle.py``, ``llama_eagle3.py``, ``qwen3_eagle3.py``,
``mistral_eagle.py``; ``config/speculative.py``
``_maybe_override_draft_max_position_embeddings``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....errors import UnsupportedError
from ....model.dflash import inner_layers
from ....records import replace
from ..modules import Block, Linear, LMHead, Module, Norm, QKVLinear, Weight
from .attention import attention
from .draft import own_embedding
from .facts import Facts
from .families import family
from .feed_forward import mlp
from .latent import latent_attention
from .ropes import rope_parameters, rotary

_LATENT = "DeepseekV3ForCausalLM"
_BASES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen3ForCausalLM", _LATENT)
_FROM_STATES = ("qkv_proj", "fused_qkv_a_proj", "kv_a_proj_with_mqa", "q_proj")
"""Projections that take in what comes to the layer."""
_CACHE_ONLY = ("default", "linear", "llama3", "ntk", "proportional")


def eagle(
    facts: Facts, target: Facts, method: str, *, over_stages: bool = False, max_model_len: int = 0
) -> Sequence[Module]:
    """EAGLE and EAGLE-3 over Llama's layers and its kin's.

    Args:
        facts: The draft model.
        target: The model it drafts for.
        method: ``eagle`` or ``eagle3``.
        over_stages: Whether the target's embedding lies on another stage.
        max_model_len: The engine's: the draft's rotary cache reaches as far.

    Raises:
        UnsupportedError: The draft is none of these.
    """
    base = facts.description.architecture
    if base not in _BASES:
        raise UnsupportedError(
            f"weights of {method} draft models of {base}'s layers are not known to the stand-alone "
            "planner; --planner vllm can answer"
        )
    facts = facts.with_options({**(family(base) or {}), "rotary": False})
    is_third = method == "eagle3"
    block = attending(facts, max_model_len)
    layers = [
        Block(f"model.layers.{number}", layer(facts, block, number, is_third), "draft")
        for number in range(facts.num_layers)
    ]
    modules: list[Module] = [*projection(facts, is_third), *layers]
    if over_stages:
        modules.append(own_embedding(facts))
    if not is_third and is_mistral(facts):
        modules.append(Norm("model.norm", facts.hidden))
    if is_third:
        own = facts.text.int("draft_vocab_size", default=facts.vocab_size)
        modules += [Norm("model.norm", facts.hidden), LMHead("lm_head", own, facts.hidden)]
        if own != target.vocab_size:
            modules.append(Weight("draft_id_to_target_id", (own,), dtype="int64"))
    return modules


def dflash(
    facts: Facts, target: Facts, *, over_stages: bool = False, max_model_len: int = 0
) -> Sequence[Module]:
    """DFlash: Qwen3's layers behind a projection of states of several of the target's layers.

    Source: vLLM 0.33 ``models/qwen3_dflash.py``.

    Args:
        facts: The draft model.
        target: The model it drafts for.
        over_stages: Whether the target's embedding lies on another stage.
        max_model_len: The engine's.
    """
    row = {**(family("Qwen3ForCausalLM") or {}), "o_bias": "attention_bias", "rotary": False}
    facts = facts.with_options(row)
    text, hidden = facts.text, facts.hidden
    states = inner_layers(text.data) or facts.num_layers
    width = text.int("target_hidden_size", default=hidden)
    norms = ("input_layernorm", "post_attention_layernorm")
    inner: tuple[Module, ...] = (
        attending(facts, max_model_len),
        mlp(facts),
        *(Norm(name, hidden) for name in norms),
    )
    modules: list[Module] = [
        Linear("model.fc", states * width, (hidden,), "none", quantised=False),
        *(Block(f"model.layers.{number}", inner, "draft") for number in range(facts.num_layers)),
        Norm("model.hidden_norm", hidden),
        Norm("model.norm", hidden),
        Weight("model.mask_embedding", (hidden,)),
    ]
    if over_stages:
        modules.append(own_embedding(facts))
    own = text.int("draft_vocab_size", default=facts.vocab_size)
    if own != target.vocab_size:
        modules.append(Weight("draft_id_to_target_id", (own,), dtype="int64"))
    if own != target.vocab_size or text.get("has_own_lm_head"):
        modules.append(LMHead("lm_head", own, hidden))
    return modules


def attending(facts: Facts, max_model_len: int) -> Block:
    """The attention of a layer, with a rotary cache that reaches as far as the engine."""
    reach = positions(facts, max_model_len)
    if facts.description.architecture != _LATENT:
        return attention(facts, rope=rotary(facts, facts.head_size, max_position=reach))
    block = latent_attention(facts, indexer=False, rope=False)
    turned = facts.text.int("qk_rope_head_dim", minimum=0)
    rope = rotary(facts, turned, width=turned, max_position=reach, deepseek=True)
    return Block(block.name, (*block.children, rope), block.part)


def is_mistral(facts: Facts) -> bool:
    """Whether EAGLE runs in Mistral's class, which keeps all norms (``mistral_eagle.py``)."""
    return facts.description.architecture == "MistralForCausalLM"


def layer(facts: Facts, block: Block, number: int, is_third: bool) -> tuple[Module, ...]:
    """One layer; the first of EAGLE-3 attends to embedding and hidden state together."""
    hidden = facts.hidden
    norms = ["input_layernorm", "post_attention_layernorm"]
    if is_third:
        norms.append("hidden_norm")
    elif number == 0 and not is_mistral(facts):
        norms.remove("input_layernorm")
    if is_third and number == 0:
        children = tuple(
            replace(child, inputs=2 * hidden)
            if isinstance(child, Linear | QKVLinear) and child.name in _FROM_STATES
            else child
            for child in block.children
        )
        block = Block(block.name, children, block.part)
    return (block, mlp(facts), *(Norm(name, hidden) for name in norms))


def projection(facts: Facts, is_third: bool) -> list[Module]:
    """From what comes in to the draft's width: embedding and state, or states of several layers."""
    hidden = facts.hidden
    if not is_third and is_mistral(facts):
        return [Linear("model.fc", 2 * hidden, (hidden,), "row", quantised=False)]
    if not is_third:
        return [Linear("model.fc", 2 * hidden, (hidden,), "none", quantised=False)]
    stated = facts.text.get("eagle_config")
    if isinstance(stated, Mapping) and stated.get("use_aux_hidden_state") is False:
        return []
    states = _aux_states(facts.text.data)
    width = facts.text.int("target_hidden_size", default=hidden)
    norms: list[Module] = []
    if facts.text.get("norm_before_fc"):
        norms.append(Norm("model.input_norm", states * width))
    if facts.text.get("fc_norm"):
        norms += [Norm(f"model.fc_norm.{number}", width) for number in range(states)]
    return [*norms, Linear("model.fc", states * width, (hidden,), "none", quantised=False)]


def positions(facts: Facts, max_model_len: int) -> int | None:
    """Rows of the rotary cache: the engine's length where the draft's own is shorter."""
    own = facts.text.opt_int("max_position_embeddings")
    kind = rope_parameters(facts.text)
    name = kind.get("rope_type", kind.get("type", "default"))
    if own is None or name not in _CACHE_ONLY:
        return None
    return max(own, max_model_len)


def _aux_states(config: Mapping[str, Any]) -> int:
    stated = config.get("num_aux_hidden_states")
    if isinstance(stated, int):
        return stated
    inner = config.get("eagle_config")
    listed = inner.get("eagle_aux_hidden_state_layer_ids") if isinstance(inner, Mapping) else None
    return len(listed) if isinstance(listed, list) and listed else 3
