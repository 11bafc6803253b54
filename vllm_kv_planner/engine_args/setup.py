"""``EngineSetup``: the engine as vLLM would configure it, down to every layer's cache spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import UnsupportedError
from ..gpu.gpu import GPU
from ..kv_cache.specs import RequestLimits
from ..model.context import CacheContext
from ..model.description import ModelDescription
from ..model.layers.base import CacheLayer
from ..model.layers.state import common_checkpoint_alignment, largest_state_bytes
from .attention_backend import AttentionBackend, EngineFacts, fixed_backend, select_backend
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
from .cache_layers import CacheLayers, backend_of_each, build_cache_layers, distinct
from .defaults import ResolvedEngine, resolve_engine
from .engine_args import EngineArgs
from .environment import EngineEnvironment
from .facts import ModelFacts
from .kv_cache_dtypes import quant_method
from .parallel import kv_heads_per_rank

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
    """

    args: EngineArgs
    gpu: GPU
    model: ModelDescription
    facts: ModelFacts
    resolved: ResolvedEngine
    context: CacheContext
    cache: CacheLayers

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
    if gpu.platform != "cuda" or gpu.compute_capability is None:
        raise UnsupportedError(
            f"{gpu.name}: vLLM's rules for {gpu.platform} are not restated here; "
            "--planner vllm on such a machine can answer"
        )
    facts = model_facts(args, model)
    resolved = resolve_engine(args, facts, gpu, environment)
    context = first_context(args, model, resolved, gpu.compute_capability)
    engine = engine_facts(args, facts, model, context)

    def choose(layer: CacheLayer, context: CacheContext) -> AttentionBackend | None:
        request = layer.backend_request(context)
        fixed = layer.fixed_backend(context)
        if fixed is not None:
            return fixed_backend(
                fixed, capability=context.compute_capability, request=request, facts=engine
            )
        if request is None:
            return None
        return select_backend(
            request,
            capability=context.compute_capability,
            requested=args.attention_backend,
            block_size=args.block_size,
            facts=engine,
        )

    backends = backend_of_each(model, context, choose)
    context = with_block_size(args, model, context, distinct(backends.values()))
    return EngineSetup(
        args=args,
        gpu=gpu,
        model=model,
        facts=facts,
        resolved=resolved,
        context=context,
        cache=build_cache_layers(model, context, backends, resolved.layers_per_stage),
    )


def model_facts(args: EngineArgs, model: ModelDescription) -> ModelFacts:
    """The model as the engine's defaults see it."""
    config = model.config
    checkpoint = config.get("quantization_config") or config.get("compression_config") or {}
    method = quant_method(checkpoint) if isinstance(checkpoint, Mapping) else ""
    return ModelFacts(
        architecture=model.architecture,
        model_type=str(config.get("model_type", "")),
        config=config,
        text_config=model.text_config,
        runner_type=model.runner_type,
        quantization=args.quantization or method or None,
        num_hidden_layers=model.num_hidden_layers,
        num_attention_heads=model.num_attention_heads,
        num_kv_heads=model.num_kv_heads,
        vocab_size=model.vocab_size,
        is_hybrid=model.is_hybrid,
        is_attention_free=model.is_attention_free,
        is_encoder_decoder=model.is_encoder_decoder,
        is_multimodal=model.is_multimodal,
        is_mm_prefix_lm=model.is_mm_prefix_lm,
        is_moe=model.is_moe,
        use_mla=model.use_mla,
        supports_pp=model.supports_pp,
    )


def first_context(
    args: EngineArgs,
    model: ModelDescription,
    resolved: ResolvedEngine,
    capability: tuple[int, int],
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
        attention_backend=args.attention_backend,
        indexer_kv_dtype=str(args.attention_config.get("indexer_kv_dtype", "auto")),
        indexer_sparse_logits=bool(args.attention_config.get("indexer_sparse_logits", False)),
    )


def engine_facts(
    args: EngineArgs, facts: ModelFacts, model: ModelDescription, context: CacheContext
) -> EngineFacts:
    """What some attention backends look up beside the layer's own request."""
    text = model.text_config
    return EngineFacts(
        head_size=model.head_size,
        num_attention_heads=model.num_attention_heads // args.tensor_parallel_size,
        num_kv_heads=kv_heads_per_rank(
            model.num_kv_heads, args.tensor_parallel_size, use_mla=model.use_mla
        ),
        kv_cache_dtype=context.kv_cache_dtype,
        logits_soft_cap=text.get("attn_logit_softcapping") is not None,
        is_mm_prefix_lm=facts.is_mm_prefix_lm,
        decode_context_parallel_size=args.decode_context_parallel_size,
        prefill_context_parallel_size=args.prefill_context_parallel_size,
        flash_attn_version=args.attention_config.get("flash_attn_version"),
        use_trtllm_attention=args.attention_config.get("use_trtllm_attention"),
        qk_nope_head_dim=text.get("qk_nope_head_dim"),
        qk_rope_head_dim=text.get("qk_rope_head_dim"),
        v_head_dim=text.get("v_head_dim"),
        kv_lora_rank=text.get("kv_lora_rank"),
        index_topk=text.get("index_topk"),
        index_kpool=text.get("index_kpool"),
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
    sizes = BlockSizes(block_size=block_size, mamba_block_size=context.mamba_block_size)
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
            mamba_page_bytes=largest_state_bytes(model.layers, context),
            use_mla=model.use_mla,
            mamba_cache_mode=context.mamba_cache_mode,
            checkpoint_alignment=common_checkpoint_alignment(model.layers, context),
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
