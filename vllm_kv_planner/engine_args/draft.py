"""The draft model of an engine: found, checked, and its cache layers as the engine runs them.

Layers within the target's checkpoint and EAGLE's are built with the target's config, an independent
draft model's with its own.

Source: vLLM 0.33 ``config/speculative.py`` ``SpeculativeConfig.__post_init__``,
``apply_draft_overrides``; ``v1/worker/gpu/spec_decode/eagle/utils.py`` ``load_eagle_model``,
``standalone_ar/speculator.py`` ``load_draft_model``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError, UnsupportedError
from ..model.description import ModelDescription
from ..model.layers.base import CacheContext
from ..records import replace
from .attention_backend import EngineFacts, Preferences
from .cache_layers import DraftCache, chooser
from .defaults import ResolvedEngine
from .engine_args import EngineArgs, EngineEnvironment
from .facts import engine_facts, model_facts
from .parallel import check_parallel
from .rules import check_rules
from .speculative import Speculative, merged_speculative_config

if TYPE_CHECKING:
    from ..config.find import FoundConfig
    from ..model.draft import Draft


def find_draft(args: EngineArgs, target: ModelDescription, asked: Speculative) -> Draft:
    """What drafts for the target, in layers that keep a cache.

    Raises:
        InputError: vLLM refuses it.
        UnsupportedError: The stand-alone planner has no rule for it.
        UnknownNameError: Nobody knows the draft model.
    """
    if target.reader is None:
        raise UnsupportedError("a hand-made model: no rule for what drafts for it")
    if asked.num_speculative_tokens is None:
        raise InputError(
            "--speculative-config: num_speculative_tokens must be provided with a speculative model"
        )
    from ..model.draft import independent_draft, mtp_draft, mtp_row
    from ..model.eagle import eagle_draft

    if asked.method not in ("mtp", "draft_model", "eagle", "eagle3", "dflash"):
        raise UnsupportedError(
            f"speculative method {asked.method!r}: its layers keep a KV cache of their own, for "
            "which there is no rule in the stand-alone planner; --planner vllm can answer"
        )
    if asked.model is None:
        return mtp_draft(target)
    found = found_draft(args, asked.model)
    if asked.method == "dflash":
        from ..model.eagle import dflash_draft

        return dflash_draft(found, target, over_stages=args.pipeline_parallel_size > 1)
    if asked.method in ("eagle", "eagle3"):
        return eagle_draft(found, target, asked.method, over_stages=args.pipeline_parallel_size > 1)
    row = mtp_row(found.config)
    if asked.method == "draft_model" and row is None:
        check_stages(args)
        draft = independent_draft(found, target)
        check_vocabulary(draft.model, target, asked)
        check_experts(draft.model, target)
        return draft
    if row != mtp_row(target.config):
        raise UnsupportedError(
            f"draft model {found.id}: its layers that predict further tokens are not of the "
            "target's family; --planner vllm can answer"
        )
    return mtp_draft(target, found)


def check_stages(args: EngineArgs) -> None:
    """Refuse pipeline stages with a draft model of its own, which vLLM 0.33 cannot run.

    ``make_layers`` cuts the draft into the target's stages too, but only the last stage has a
    draft; its part begins in the middle, and waits for hidden states that nobody sends.
    """
    if args.pipeline_parallel_size > 1:
        raise InputError(
            "speculative method 'draft_model' with --pipeline-parallel-size "
            f"{args.pipeline_parallel_size}: vLLM 0.33 builds the last stage's share of the draft "
            "model alone and does not start; use --tensor-parallel-size, or another method"
        )


def found_draft(args: EngineArgs, name: str) -> FoundConfig:
    """The draft model's config, wherever models are looked for.

    Raises:
        UnknownNameError: Nobody knows it.
        ConfigError: It cannot be read.
    """
    from ..config.find import find_config

    revision = (merged_speculative_config(args) or {}).get("revision")
    try:
        return find_config(name, revision=revision)
    except InputError as error:
        raise type(error)(f"draft model of --speculative-config: {error}") from None


def check_experts(draft: ModelDescription, target: ModelDescription) -> None:
    """Refuse experts in the draft alone: vLLM makes their group of ranks for the target only.

    Source: vLLM 0.33 ``distributed/parallel_state.py`` ``get_ep_group``.
    """
    if draft.is_moe and not target.is_moe:
        raise InputError(
            f"speculative method 'draft_model': {draft.architecture} has experts and the target "
            "has none, for which vLLM 0.33 does not start; take a draft model without experts"
        )


def check_vocabulary(draft: ModelDescription, target: ModelDescription, asked: Speculative) -> None:
    """Refuse a draft model of another vocabulary (``verify_equal_vocab_size_if_draft_model``)."""
    if draft.vocab_size != target.vocab_size and not asked.use_heterogeneous_vocab:
        raise InputError(
            "Target and draft model should have the same vocabulary size. Target model "
            f"vocab_size={target.vocab_size}. Draft model vocab_size={draft.vocab_size}"
        )


def check_slots(args: EngineArgs, speculative: Speculative, resolved: ResolvedEngine) -> None:
    """Refuse batches too small for the draft's tokens, and ranks that its runner does not divide.

    Model Runner V1 runs an independent draft model on all ranks of the target or not at all
    (``DraftModelProposer._raise_if_draft_tp_mismatch``).
    """
    batch, uses_v2 = resolved.batch, resolved.runner.uses_v2
    ranks, tokens = args.tensor_parallel_size, batch.max_num_batched_tokens
    own = speculative.draft_tensor_parallel_size or ranks
    if speculative.method == "draft_model" and not uses_v2 and own != ranks:
        raise InputError(
            "Currently, 'draft_tensor_parallel_size' and 'tensor_parallel_size' must be the same. "
            f"Got {own} and {ranks}"
        )
    verified = batch.max_num_seqs * (1 + (speculative.num_speculative_tokens or 0))
    if args.enable_lora and tokens < verified:
        raise InputError(
            f"Consider increasing max_num_batched_tokens ({tokens}) or decreasing "
            f"num_speculative_tokens: with LoRA the batch must hold {verified} tokens, "
            "max_num_seqs x (1 + num_speculative_tokens)"
        )
    lookahead = speculative.num_lookahead_tokens
    if tokens <= lookahead:
        raise InputError(
            "VllmConfig does not have enough slots to schedule a token and support the speculative "
            f"decoding settings. Got max_num_batched_tokens={tokens} and "
            f"num_lookahead_tokens={lookahead}"
        )


def cached_draft(
    args: EngineArgs,
    draft: Draft,
    resolved: ResolvedEngine,
    context: CacheContext,
    preferences: Preferences,
    engine: EngineFacts,
    stored: str,
) -> DraftCache:
    """The draft's cache layers in this engine.

    ``stored`` is the KV cache dtype once the target is built: sparse latents change the engine's.

    Raises:
        InputError: What vLLM refuses, in its words.
        UnsupportedError: What the stand-alone planner has no rule for.
    """
    speculative = resolved.speculative
    assert speculative is not None, "the engine has a draft"
    check_slots(args, speculative, resolved)
    own_args = args
    if draft.found is not None:  # its own quantisation, not the target's
        own_args = replace(args, quantization=speculative.quantization, hf_overrides={})
    facts = model_facts(own_args, draft.model)
    if draft.method != "mtp":
        alone = replace(
            own_args,
            pipeline_parallel_size=1,
            decode_context_parallel_size=1,
            prefill_context_parallel_size=1,
            enable_expert_parallel=own_args.enable_expert_parallel and facts.is_moe,
            enable_eplb=False,
            eplb_config={},
        )
        check_parallel(alone, facts, EngineEnvironment())
        check_rules(
            own_args, draft.model, facts, resolved, engine.rocm or context.compute_capability
        )
    own = engine_facts(
        own_args,
        facts,
        draft.model,
        kv_cache_dtype=context.kv_cache_dtype,
        preferences=preferences,
        rocm=engine.rocm,
        xpu=engine.xpu,
    )
    asked = asked_backend(draft, speculative, preferences, uses_v2=resolved.runner.uses_v2)
    seen = replace(context, kv_cache_dtype=stored)
    return draft_cache(args, draft, speculative, seen, asked, engine, own)


def asked_backend(
    draft: Draft, speculative: Speculative, preferences: Preferences, *, uses_v2: bool
) -> Preferences:
    """The backend asked for: Model Runner V1 never takes over the target's, nor does DFlash.

    V2 does, and for an independent draft model it knows no other.
    """
    own = speculative.attention_backend
    if draft.use_non_causal is not None:
        return replace(preferences, backend=own, use_non_causal=draft.use_non_causal)
    if not uses_v2:
        return replace(preferences, backend=own)
    independent = draft.method == "draft_model"
    return replace(
        preferences, backend=preferences.backend if independent else own or preferences.backend
    )


def draft_cache(
    args: EngineArgs,
    draft: Draft,
    speculative: Speculative,
    context: CacheContext,
    asked: Preferences,
    engine: EngineFacts,
    own: EngineFacts,
) -> DraftCache:
    """The draft's cache layers, each with its backend.

    Layers within the target, and EAGLE's, are built with the target's config, which ``engine`` is
    of; ``own`` is of the draft model, for those that are built with their own.
    """
    independent = draft.method == "draft_model"
    kv_cache_dtype = speculative.kv_cache_dtype or context.kv_cache_dtype
    seen = own if independent else replace(engine, logits_soft_cap=own.logits_soft_cap)
    choose = chooser(args, replace(seen, kv_cache_dtype=kv_cache_dtype), asked)

    def inside(context: CacheContext) -> CacheContext:
        return replace(context, kv_cache_dtype=kv_cache_dtype, attention_backend=asked.backend)

    return DraftCache(
        layers=draft.layers,
        backends=tuple(choose(layer, inside(context)) for layer in draft.layers),
        inside=inside,
        extra_retained_tokens=max(0, speculative.num_prefill_lookahead_tokens - 1),
    )
