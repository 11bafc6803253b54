"""What drafting adds to the weights of the last pipeline stage's ranks.

EAGLE and EAGLE-3 are one or a few layers that read the target's hidden states. Embedding and head
are the target's unless the draft has other words, or pipeline stages part them; the rotary cache is
its own unless the target's is just the same. Tensors are cut by the target's ranks whatever
``draft_tensor_parallel_size`` says.

Source: vLLM 0.33 ``v1/worker/gpu/spec_decode/eagle/utils.py`` ``load_eagle_model``,
``standalone_ar/speculator.py`` ``load_draft_model``; ``models/llama_eagle.py``,
``llama_eagle3.py``, ``qwen3_eagle3.py``, ``mistral_eagle.py``; ``config/speculative.py``
``_maybe_override_draft_max_position_embeddings``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ...config.found import weights_unknown
from ...engine_args.quantization import resolve_quantization
from ...errors import UnsupportedError
from ...model.config import Config
from ...model.description import ModelDescription
from ...model.eagle import inner_layers
from ...records import replace
from .architectures import build, family
from .architectures.attention import attention, rope_parameters, rotary
from .architectures.facts import Facts
from .architectures.feed_forward import mlp
from .architectures.mixers import latent_attention
from .architectures.mtp import mtp, own_embedding
from .modules import Block, Linear, LMHead, Module, Norm, Rotary, Weight
from .quantization import quantization as quantization_of
from .rank import Place, Rank, Tensor

if TYPE_CHECKING:
    from ...engine_args.setup import EngineSetup


_WITHOUT_WEIGHTS = ("ngram", "ngram_gpu", "suffix", "extract_hidden_states")


def own_quantization(setup: EngineSetup) -> str | None:
    """The quantisation method of a draft model with a checkpoint of its own.

    Raises:
        UnsupportedError: The target's head is quantised for it, or nobody says how it is itself.
    """
    draft, speculative = setup.draft, setup.resolved.speculative
    if speculative is not None and speculative.head_quantization is not None:
        raise UnsupportedError(
            "--speculative-config: draft_lm_head_quantization makes a copy of the head whose size "
            "is not known to the stand-alone planner; --planner vllm can answer"
        )
    if draft is None or speculative is None or draft.method == "mtp":
        return None
    method = resolve_quantization(
        speculative.quantization,
        draft.model.config,
        architecture=draft.model.architecture,
        allow_deprecated=setup.args.allow_deprecated_quantization,
    )
    named = draft.model.unstated_quantization
    if named is not None and method is None:
        raise UnsupportedError(f"draft model: {weights_unknown(named)}")
    return method


def draft_tensors(
    target: Facts,
    rank: Rank,
    method: str | None,
    draft: ModelDescription | None,
    *,
    quantization: str | None = None,
    over_stages: bool = False,
    max_model_len: int = 0,
) -> list[Tensor]:
    """What drafting adds on the last stage; ``draft`` where it has a checkpoint of its own.

    Raises:
        UnsupportedError: The method's draft model is not known here.
    """
    if method is None or method in _WITHOUT_WEIGHTS:
        return []
    if method == "mtp" and draft is None:
        return placed(mtp(target, over_stages=over_stages), rank)
    if draft is None:
        raise UnsupportedError(f"weights of the draft model ({method}) need its config")
    row = family(draft.architecture) or {}
    own = quantization_of(quantization, draft.config, is_composite="wrapper" in row)
    rank = replace(rank, quantization=own)
    facts = Facts(
        description=draft,
        text=Config(draft.text_config, "config.json of the draft model"),
        top=Config(draft.config, "config.json of the draft model"),
        capability=target.capability,
        version=target.version,
    )
    if method == "draft_model":
        tree = build(facts)
        layers = range(len(tree.layers))
        modules = tree.stage_modules(layers, is_first=True, is_last=True)
        made = [replace(each, part="draft") for each in tree.tensors(modules, rank)]
        return own_ropes(made, facts, target)
    if method == "dflash":
        modules = dflash(facts, target, max_model_len)
    elif method in ("eagle", "eagle3"):
        modules = eagle(facts, target, method, max_model_len)
    else:
        raise UnsupportedError(
            f"weights of {method} draft models are not known to the stand-alone planner; "
            "--planner vllm can answer"
        )
    if over_stages:
        modules.append(own_embedding(facts))
    return own_ropes(placed(modules, rank), facts, target)


def own_ropes(tensors: list[Tensor], draft: Facts, target: Facts) -> list[Tensor]:
    """The draft's tensors; its rotary caches told from the target's unless they are the same."""
    same = rope_key(draft) == rope_key(target)
    ropes = {
        rope: each if same else replace(each, shared=replace(rope, variant="draft"))
        for each in reversed(tensors)
        if isinstance(rope := each.shared, Rotary)
    }
    return [each for each in tensors if not isinstance(each.shared, Rotary)] + [*ropes.values()]


def rope_key(facts: Facts) -> tuple[object, ...]:
    """What tells one rope of a size from another."""
    found = dict(rope_parameters(facts.text))
    base = found.pop("rope_theta", None) or facts.text.get("rope_theta")
    kind = found.pop("rope_type", None) or found.pop("type", None) or "default"
    return kind, base, *sorted(map(repr, found.items()))


def placed(modules: Iterable[Module], rank: Rank) -> list[Tensor]:
    """The modules' tensors on this rank, as the draft's."""
    place = Place(rank, part="draft")
    return [tensor for module in modules for tensor in module.tensors(place)]


_LATENT = "DeepseekV3ForCausalLM"
_BASES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen3ForCausalLM", _LATENT)
_FROM_STATES = ("qkv_proj", "fused_qkv_a_proj", "kv_a_proj_with_mqa", "q_proj")
"""Projections that take in what comes to the layer."""
_NORMS: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
_CACHE_ONLY = ("default", "linear", "llama3", "ntk", "proportional")


def eagle(facts: Facts, target: Facts, method: str, max_model_len: int) -> list[Module]:
    """``eagle`` and ``eagle3`` over Llama's layers and its kin's.

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
    if not is_third and is_mistral(facts):
        modules.append(Norm("model.norm", facts.hidden))
    if is_third:
        own = facts.text.int("draft_vocab_size", default=facts.vocab_size)
        modules += [Norm("model.norm", facts.hidden), LMHead("lm_head", own, facts.hidden)]
        if own != target.vocab_size:
            modules.append(Weight("draft_id_to_target_id", (own,), dtype="int64"))
    return modules


def dflash(facts: Facts, target: Facts, max_model_len: int) -> list[Module]:
    """DFlash: Qwen3's layers behind a projection of states of several of the target's layers.

    Source: vLLM 0.33 ``models/qwen3_dflash.py``.
    """
    row = {**(family("Qwen3ForCausalLM") or {}), "o_bias": "attention_bias", "rotary": False}
    facts = facts.with_options(row)
    text, hidden = facts.text, facts.hidden
    states = inner_layers(text.data) or facts.num_layers
    width = text.int("target_hidden_size", default=hidden)
    inner = (attending(facts, max_model_len), mlp(facts), *_norms(facts, *_NORMS))
    modules: list[Module] = [
        Linear("model.fc", states * width, (hidden,), "none", quantised=False),
        *(Block(f"model.layers.{number}", inner, "draft") for number in range(facts.num_layers)),
        Norm("model.hidden_norm", hidden),
        Norm("model.norm", hidden),
        Weight("model.mask_embedding", (hidden,)),
    ]
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
    norms = (*_NORMS, "hidden_norm") if is_third else _NORMS
    if number == 0 and not is_third and not is_mistral(facts):
        norms = _NORMS[1:]
    if is_third and number == 0:
        children = tuple(
            replace(child, inputs=2 * hidden)
            if isinstance(child, Linear) and child.name in _FROM_STATES
            else child
            for child in block.children
        )
        block = Block(block.name, children, block.part)
    return (block, mlp(facts), *_norms(facts, *norms))


def _norms(facts: Facts, *names: str) -> tuple[Module, ...]:
    return tuple(Norm(name, facts.hidden) for name in names)


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
