"""``EngineSetup``: the engine as vLLM would configure it, down to every layer's cache spec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..config.find import FoundConfig
from ..errors import ConfigError, UnsupportedError
from ..gpu.gpu import GPU, NOT_CUDA
from ..kv_cache.specs import RequestLimits
from ..model.defaults import shows_nothing
from ..model.describe import describe
from ..model.description import ModelDescription
from ..model.layers.base import CacheContext
from ..records import dataclass, replace
from .attention_backend import AttentionBackend
from .block_size import DEFAULT_BLOCK_SIZE, with_block_size
from .cache_layers import (
    CacheLayers,
    backend_of_each,
    build_cache_layers,
    chooser,
    distinct,
    joined,
)
from .defaults import ResolvedEngine, resolve_engine
from .engine_args import EngineArgs, EngineEnvironment
from .facts import ModelFacts, attention_preferences, engine_facts, model_facts, outside_facts
from .speculative import resolve_speculative
from .versions import TODAY, PlanningRules

if TYPE_CHECKING:
    from ..model.draft import Draft


@dataclass(frozen=True, kw_only=True)
class EngineSetup:
    """What is planned for; no input or output after this.

    Attributes:
        args: What the user asked.
        gpu: The device of every rank.
        model: The model.
        facts: The model as the engine's defaults see it.
        resolved: Every default resolved.
        context: What the cache layers see of it, final block size included.
        cache: The cache layers' specs, layout and backends.
        draft: What drafts, where its layers keep a cache.
        environment: vLLM's environment variables.
        rules: How its version plans.
    """

    args: EngineArgs
    gpu: GPU
    model: ModelDescription
    facts: ModelFacts
    resolved: ResolvedEngine
    context: CacheContext
    cache: CacheLayers
    draft: Draft | None = None
    environment: EngineEnvironment = EngineEnvironment()
    rules: PlanningRules = TODAY

    @property
    def limits(self) -> RequestLimits:
        """What bounds one request."""
        resolved = self.resolved
        return RequestLimits(
            max_model_len=resolved.length.max_model_len,
            max_in_flight_tokens=resolved.max_in_flight_tokens,
            decode_context_parallel_size=self.args.decode_context_parallel_size,
            max_num_encoder_input_tokens=resolved.batch.max_num_encoder_input_tokens,
            mamba_cache_mode=resolved.caching.mamba_cache_mode,
        )


def resolve_setup(
    args: EngineArgs,
    model: ModelDescription,
    gpu: GPU,
    environment: EngineEnvironment | None = None,
    rules: PlanningRules = TODAY,
) -> EngineSetup:
    """Resolve everything that the KV cache depends on; ``rules`` are those of the version.

    Raises:
        InputError: What vLLM refuses, in its words.
        UnsupportedError: What the stand-alone planner has no rule for.
    """
    environment = environment or EngineEnvironment()
    capability = _capability(gpu)
    facts = model_facts(args, model)
    if gpu.platform != "cuda":
        from .rules import on_platform

        args = on_platform(args, model, gpu, facts, environment)
    draft = None
    if (asked := resolve_speculative(args)) is not None and asked.has_draft_layers:
        from .draft import find_draft

        draft = find_draft(args, model, asked)
    outside = replace(outside_facts(args, facts, model.item_rule), draft=draft)
    resolved = resolve_engine(args, facts, gpu, environment, outside, rules)
    if facts.quantization is not None or args.pipeline_parallel_size > 1:
        from .rules import check_rules

        check_rules(args, model, facts, resolved, capability)
    context, cache = _cache(args, model, gpu, capability, facts, resolved, draft, rules)
    return EngineSetup(
        args=args,
        gpu=gpu,
        model=model,
        facts=facts,
        resolved=resolved,
        context=context,
        cache=cache,
        draft=draft,
        environment=environment,
        rules=rules,
    )


def _capability(gpu: GPU) -> tuple[int, int]:
    """The device's compute capability, none of Intel's; UnsupportedError where nobody stated it."""
    if gpu.platform == "xpu":
        return NOT_CUDA
    if gpu.compute_capability is None:
        raise UnsupportedError(
            f"{gpu.name}: its compute capability is not known, and vLLM's rules go by it; name a "
            "GPU that is like it"
        )
    return gpu.compute_capability


def _cache(
    args: EngineArgs,
    model: ModelDescription,
    gpu: GPU,
    capability: tuple[int, int],
    facts: ModelFacts,
    resolved: ResolvedEngine,
    draft: Draft | None,
    rules: PlanningRules,
) -> tuple[CacheContext, CacheLayers]:
    """Backends first, which settle the block size, which the layers' specs follow."""
    preferences = attention_preferences(
        args,
        model,
        kv_cache_dtype=resolved.kv_cache_dtype.name,
        capability=capability,
        platform=gpu.platform,
    )
    first = first_context(args, model, resolved, gpu.cuda_capability, preferences.backend)
    engine = engine_facts(
        args,
        facts,
        model,
        kv_cache_dtype=first.kv_cache_dtype,
        preferences=preferences,
        rocm=capability if gpu.platform == "rocm" else None,
        xpu=gpu.platform == "xpu",
    )
    backends = backend_of_each(model, first, chooser(args, engine, preferences))
    drafted = None
    if draft is not None:
        from .cache_layers import stored_kv_cache_dtype
        from .draft import cached_draft

        stored = stored_kv_cache_dtype(model, first, backends)
        drafted = cached_draft(args, draft, resolved, first, preferences, engine, stored)

    def sized(own: list[AttentionBackend]) -> CacheContext:
        return with_block_size(args, model, first, own, rules)

    context = sized(joined(distinct(backends.values()), drafted.backends if drafted else ()))
    return context, build_cache_layers(
        model, first, backends, resolved.layers_per_stage, sized, drafted
    )


def first_context(
    args: EngineArgs,
    model: ModelDescription,
    resolved: ResolvedEngine,
    capability: tuple[int, int],
    attention_backend: str | None,
) -> CacheContext:
    """The engine as cache layers see it before the block size is settled."""
    speculative = resolved.speculative
    ssm_dtype = args.mamba_ssm_cache_dtype
    if ssm_dtype == "auto":
        ssm_dtype = model.default_mamba_ssm_cache_dtype
    block_size = args.block_size or DEFAULT_BLOCK_SIZE
    return CacheContext(
        tensor_parallel_size=args.tensor_parallel_size,
        dtype=resolved.dtype.name,
        kv_cache_dtype=resolved.kv_cache_dtype.name,
        kv_cache_dtype_skip_layers=resolved.kv_cache_dtype_skip_layers,
        block_size=block_size,
        mamba_block_size=resolved.caching.mamba_block_size or block_size,
        mamba_cache_mode=resolved.caching.mamba_cache_mode,
        mamba_cache_dtype=args.mamba_cache_dtype,
        mamba_ssm_cache_dtype=ssm_dtype,
        num_speculative_tokens=(speculative.num_speculative_tokens or 0) if speculative else 0,
        compute_capability=capability,
        max_num_batched_tokens=resolved.batch.max_num_batched_tokens,
        attention_backend=attention_backend,
        indexer_kv_dtype=str(args.attention_config.get("indexer_kv_dtype", "auto")),
        indexer_sparse_logits=bool(args.attention_config.get("indexer_sparse_logits", False)),
    )


def described(found: FoundConfig, args: EngineArgs) -> ModelDescription:
    """The model of a config under these flags; the last ones are remembered."""
    return _described(
        # the objects themselves, which the cache keeps alive: an id cannot come to mean another
        Keyed(found, (id(found.config), *map(id, found.files.values()))),
        Keyed(args.hf_overrides, repr(args.hf_overrides)),
        text_only(found, args),
        args.disable_sliding_window,
        args.runner,
        args.convert,
    )


def text_only(found: FoundConfig, args: EngineArgs) -> bool:
    """Whether no image, audio or video can reach the model."""
    if args.enable_mm_embeds:
        return False
    limits = args.limit_mm_per_prompt
    return args.language_model_only or (bool(limits) and shows_nothing(found.config, limits))


@contextmanager
def named(found: FoundConfig) -> Iterator[None]:
    """Say which config a complaint about ``config.json`` means."""
    try:
        yield
    except ConfigError as error:
        message = str(error)
        if not message.startswith("config.json: "):
            raise
        where = found.path or found.id
        raise type(error)(where + message.removeprefix("config.json")) from None


class Keyed:
    """A value that compares by a key of its own, so that what follows from it can be remembered."""

    def __init__(self, value: Any, key: object) -> None:
        self.value = value
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyed) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=64)
def _described(
    found: Keyed,
    hf_overrides: Keyed,
    language_model_only: bool,
    disable_sliding_window: bool,
    runner: str,
    convert: str,
) -> ModelDescription:
    return describe(
        found.value.with_quantization,
        where=found.value.path or found.value.id,
        name=found.value.id,
        any_type=found.value.has_own_type,
        hf_overrides=hf_overrides.value,
        language_model_only=language_model_only,
        disable_sliding_window=disable_sliding_window,
        runner=runner,
        convert=convert,
    )
