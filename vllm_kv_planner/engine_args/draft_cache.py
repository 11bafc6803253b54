"""The draft's cache layers as the engine runs them: their backends, their own KV dtype.

Layers within the target's checkpoint and EAGLE's are built with the target's config, an independent
draft model's with its own.

Source: vLLM 0.33 ``config/speculative.py`` ``apply_draft_overrides``;
``v1/worker/gpu/spec_decode/eagle/utils.py`` ``load_eagle_model``, ``standalone_ar/speculator.py``
``load_draft_model``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.context import CacheContext
from ..records import replace
from .attention_backend import EngineFacts, Preferences
from .cache_layers import DraftCache
from .chooser import chooser
from .defaults import ResolvedEngine
from .engine_args import EngineArgs
from .environment import EngineEnvironment
from .model_facts import engine_facts, model_facts
from .parallel import check_parallel
from .rules import check_rules
from .speculative import Speculative

if TYPE_CHECKING:
    from ..model.draft import Draft


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

    Args:
        args: The engine's flags.
        draft: What drafts.
        resolved: The engine.
        context: As the target's layers see it.
        preferences: The backend the target asks for.
        engine: What backends look up of the target.
        stored: The KV cache dtype once the target is built: sparse latents change the engine's.

    Raises:
        InputError: What vLLM refuses, in its words.
        UnsupportedError: What the stand-alone planner has no rule for.
    """
    speculative = resolved.speculative
    assert speculative is not None, "the engine has a draft"
    own_args = draft_args(args, draft, speculative)
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

    Args:
        args: The engine's flags.
        draft: What drafts.
        speculative: How.
        context: The engine as the target's layers see it.
        asked: The backend asked for.
        engine: What backends look up of the target: layers within the target, and EAGLE's, are
            built with its config.
        own: The same of the draft model, for those that are built with their own.
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


def draft_args(args: EngineArgs, draft: Draft, speculative: Speculative) -> EngineArgs:
    """The flags as the draft model sees them: its own quantisation, not the target's."""
    if draft.found is None:
        return args
    return replace(args, quantization=speculative.quantization, hf_overrides={})
