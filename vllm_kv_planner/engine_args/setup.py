"""``EngineSetup``: the engine as vLLM would configure it, down to every layer's cache spec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UnsupportedError
from ..gpu.gpu import GPU, NOT_CUDA
from ..kv_cache.specs import RequestLimits
from ..model.context import CacheContext
from ..model.description import ModelDescription
from ..model.layers.state import common_checkpoint_alignment, largest_state_bytes
from ..records import dataclass, replace
from .attention_backend import AttentionBackend
from .attention_backend.bytes_per_token import hybrid_bytes_per_token, layer_bytes_per_token
from .block_size import (
    DEFAULT_BLOCK_SIZE,
    BlockSizes,
    align_hybrid,
    align_skip_layers,
    check_aligned,
    preferred_block_size,
    validate_block_size,
)
from .cache_layers import CacheLayers, backend_of_each, build_cache_layers, distinct, joined
from .chooser import chooser
from .defaults import ResolvedEngine, resolve_engine
from .draft import find_draft
from .engine_args import EngineArgs
from .environment import EngineEnvironment
from .facts import ModelFacts
from .model_facts import attention_preferences, engine_facts, model_facts, outside_facts
from .rules import check_rules

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
) -> EngineSetup:
    """Resolve everything that the KV cache depends on.

    Raises:
        InputError: What vLLM refuses, in its words.
        UnsupportedError: What the stand-alone planner has no rule for.
    """
    capability = _capability(gpu)
    facts = model_facts(args, model)
    if gpu.platform == "rocm":
        from .rocm_rules import on_rocm

        args = on_rocm(args, facts, environment or EngineEnvironment())
    if gpu.platform == "xpu":
        _check_on_xpu(args, model, gpu, facts)
    draft = find_draft(args, model)
    outside = replace(outside_facts(args, facts, model.item_rule), draft=draft)
    resolved = resolve_engine(args, facts, gpu, environment, outside)
    check_rules(args, model, facts, resolved, capability)
    context, cache = _cache(args, model, gpu, capability, facts, resolved, draft)
    return EngineSetup(
        args=args,
        gpu=gpu,
        model=model,
        facts=facts,
        resolved=resolved,
        context=context,
        cache=cache,
        draft=draft,
        environment=environment or EngineEnvironment(),
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


def _check_on_xpu(args: EngineArgs, model: ModelDescription, gpu: GPU, facts: ModelFacts) -> None:
    from .attention_backend.xpu import check_planned

    unplanned = {
        "latent attention (MLA)": model.use_mla,
        "a hybrid of attention and states": model.is_hybrid,
        "a model without attention": model.is_attention_free,
        "an image that is attended to in both directions": model.is_mm_prefix_lm,
        "--speculative-config": args.speculative_config is not None,
        "--kv-transfer-config": args.kv_transfer_config is not None,
    }
    check_planned(gpu.name, args.dtype, facts.quantization, unplanned)


def _cache(
    args: EngineArgs,
    model: ModelDescription,
    gpu: GPU,
    capability: tuple[int, int],
    facts: ModelFacts,
    resolved: ResolvedEngine,
    draft: Draft | None,
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
        from .draft_cache import cached_draft

        stored = stored_kv_cache_dtype(model, first, backends)
        drafted = cached_draft(args, draft, resolved, first, preferences, engine, stored)

    def sized(own: list[AttentionBackend]) -> CacheContext:
        return with_block_size(args, model, first, own)

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


def with_block_size(
    args: EngineArgs,
    model: ModelDescription,
    context: CacheContext,
    backends: list[AttentionBackend],
) -> CacheContext:
    """The context with the block size that backends, states and unquantised layers agree on."""
    if not backends:
        return context
    block_size = args.block_size or preferred_block_size(backends)
    sizes = _aligned(
        BlockSizes(block_size=block_size, mamba_block_size=context.mamba_block_size),
        model,
        context,
        backends,
    )
    check_aligned(backends, block_size, sizes.block_size)
    validate_block_size(
        sizes.block_size,
        decode_context_parallel_size=args.decode_context_parallel_size,
        cp_kv_cache_interleave_size=args.cp_kv_cache_interleave_size or 1,
    )
    return replace(
        context,
        block_size=sizes.block_size,
        mamba_block_size=sizes.mamba_block_size or sizes.block_size,
        mamba_page_size_padded=sizes.mamba_page_size_padded,
        skip_page_size_padded=sizes.skip_page_size_padded,
    )


def _aligned(
    sizes: BlockSizes,
    model: ModelDescription,
    context: CacheContext,
    backends: list[AttentionBackend],
) -> BlockSizes:
    """Sizes at which pages of attention, of states and of unquantised layers agree."""
    if model.is_hybrid:
        sizes = align_hybrid(
            sizes,
            backends,
            attention_bytes_per_token=hybrid_bytes_per_token(
                backends[0],
                dtype=context.dtype,
                kv_cache_dtype=context.kv_cache_dtype,
                use_mla=model.use_mla,
                has_skip_layers=bool(context.kv_cache_dtype_skip_layers),
            ),
            mamba_page_bytes=largest_state_bytes(model.first_of_kind.values(), context),
            use_mla=model.use_mla,
            mamba_cache_mode=context.mamba_cache_mode,
            checkpoint_alignment=common_checkpoint_alignment(model.first_of_kind.values(), context),
        )
    if context.kv_cache_dtype_skip_layers:
        quantised, skipped = (
            layer_bytes_per_token(backends[0], dtype=context.dtype, kv_cache_dtype=kv_cache_dtype)
            for kv_cache_dtype in (context.kv_cache_dtype, "auto")
        )
        sizes = align_skip_layers(
            sizes,
            backends[0],
            quantised_bytes_per_token=quantised,
            skipped_bytes_per_token=skipped,
        )
    return sizes
