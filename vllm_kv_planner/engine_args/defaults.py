"""From what the user asked to what vLLM 0.33 runs: every default resolved, in vLLM's order.

The rules stand in caching, lengths, parallel, runner and speculative; this only calls them.
"""

from __future__ import annotations

from ..errors import UnsupportedError
from ..files.json_file import read_json
from ..gpu.gpu import GPU
from ..records import dataclass, replace
from .caching import (
    CachingMode,
    KVCacheDtype,
    hybrid_manager_disabled,
    resolve_caching_mode,
    resolve_kv_cache_dtype,
    skip_layers,
    why_hybrid_is_off,
    without_hybrid,
)
from .engine_args import EngineArgs, EngineEnvironment
from .facts import ModelFacts, OutsideFacts
from .lengths import ModelDtype, ModelLength, checkpoint_dtype, resolve_dtype, resolve_max_model_len
from .parallel import check_parallel, split_layers
from .runner import (
    BatchSizes,
    Runner,
    batch_defaults,
    resolve_batch_sizes,
    resolve_runner,
)
from .speculative import Speculative, limited_length, resolve_speculative
from .versions import TODAY, PlanningRules


@dataclass(frozen=True, kw_only=True)
class ResolvedEngine:
    """The engine as vLLM would configure it, but for blocks and attention backends."""

    dtype: ModelDtype
    kv_cache_dtype: KVCacheDtype
    kv_cache_dtype_skip_layers: tuple[str, ...]
    length: ModelLength
    caching: CachingMode
    batch: BatchSizes
    runner: Runner
    speculative: Speculative | None
    disable_hybrid_kv_cache_manager: bool
    layers_per_stage: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def max_in_flight_tokens(self) -> int:
        """Tokens scheduled but not settled, at most (``VllmConfig.max_in_flight_tokens``)."""
        return self.runner.max_concurrent_batches * self.batch.max_num_batched_tokens


def resolve_engine(
    args: EngineArgs,
    facts: ModelFacts,
    gpu: GPU,
    environment: EngineEnvironment | None = None,
    outside: OutsideFacts | None = None,
    rules: PlanningRules = TODAY,
) -> ResolvedEngine:
    """Raises InputError in vLLM's words where vLLM would refuse to start."""
    environment = environment or EngineEnvironment()
    outside = outside or OutsideFacts()
    if environment.mla_disable and facts.use_mla:
        raise UnsupportedError("VLLM_MLA_DISABLE=1 is not planned for; --planner vllm can answer")
    dtype = _dtype(args, facts, gpu, outside)
    length = _length(args, facts, environment, outside, rules)
    caching = resolve_caching_mode(args, facts, max_model_len=length.max_model_len)
    kv_cache_dtype = resolve_kv_cache_dtype(
        args.kv_cache_dtype,
        facts,
        dtype=dtype.name,
        platform=gpu.platform,
        compute_capability=gpu.compute_capability,
        rules=rules,
    )
    check_parallel(args, facts, environment)
    check_lora(args, facts.architecture)
    speculative = resolve_speculative(args, outside.draft)
    batch = _batch(args, facts, gpu, outside, length, caching, rules)
    runner = resolve_runner(args, facts, speculative, environment)
    if outside.draft is not None and speculative is not None:
        length = limited_length(length, speculative, outside.draft, uses_v2=runner.uses_v2)
    drafted = None if outside.draft is None else outside.draft.summary
    reasons = (dtype.note, length.note, runner.reason, drafted, why_hybrid_is_off(args, rules))
    return ResolvedEngine(
        dtype=dtype,
        kv_cache_dtype=kv_cache_dtype,
        kv_cache_dtype_skip_layers=tuple(
            skip_layers(args.kv_cache_dtype_skip_layers, kv_cache_dtype.name, facts)
        ),
        length=length,
        caching=caching,
        batch=batch,
        runner=runner,
        speculative=speculative,
        disable_hybrid_kv_cache_manager=hybrid_manager_disabled(
            args,
            facts,
            environment,
            draft_uses_eagle=speculative is not None and speculative.uses_eagle,
            connector_supports_hybrid=without_hybrid(args, rules) is None,
        ),
        layers_per_stage=split_layers(
            facts.num_hidden_layers, args.pipeline_parallel_size, environment.pp_layer_partition
        ),
        notes=tuple(reason for reason in reasons if reason),
    )


def _dtype(args: EngineArgs, facts: ModelFacts, gpu: GPU, outside: OutsideFacts) -> ModelDtype:
    """The flag's dtype; under ``auto`` the config's, else that of the checkpoint's tensors."""
    return resolve_dtype(
        args.dtype,
        checkpoint=checkpoint_dtype(facts.config) or outside.checkpoint_dtype,
        model_type=facts.model_type,
        is_pooling=facts.runner_type == "pooling",
        platform=gpu.platform,
        compute_capability=gpu.compute_capability,
        gpu_name=gpu.name,
    )


def _length(
    args: EngineArgs,
    facts: ModelFacts,
    environment: EngineEnvironment,
    outside: OutsideFacts,
    rules: PlanningRules,
) -> ModelLength:
    absolute = facts.config.get("position_embedding_type") == "absolute"
    length = resolve_max_model_len(
        args.max_model_len,
        facts.text_config,
        disable_sliding_window=args.disable_sliding_window,
        tokenizer_max_length=(
            outside.tokenizer_max_length if facts.runner_type == "pooling" and absolute else None
        ),
        encoder_max_seq_length=outside.encoder_max_seq_length,
        allow_long=environment.allow_long_max_model_len,
        rules=rules,
    )
    by_user = args.max_model_len not in (None, -1)
    if facts.architecture == "EmbeddingGemma2Model" and not by_user and length.max_model_len > 8192:
        return replace(length, max_model_len=8192)
    return length


def _batch(
    args: EngineArgs,
    facts: ModelFacts,
    gpu: GPU,
    outside: OutsideFacts,
    length: ModelLength,
    caching: CachingMode,
    rules: PlanningRules,
) -> BatchSizes:
    """The batch's sizes: flags, else what the device and the use call for."""
    defaults = batch_defaults(
        device_memory_bytes=gpu.batch_defaults_memory_bytes,
        device_name=gpu.name,
        compute_capability=gpu.compute_capability,
        usage_context=args.usage_context,
        rules=rules,
    )
    batch = resolve_batch_sizes(
        args,
        defaults,
        max_model_len=length.max_model_len,
        chunked_prefill=caching.enable_chunked_prefill,
        min_mm_tokens=outside.min_mm_tokens if facts.is_mm_prefix_lm else None,
        shown_mm_tokens=outside.shown_mm_tokens,
    )
    if facts.architecture == "DiffusionGemmaForBlockDiffusion" and batch.max_num_seqs >= 128:
        return replace(batch, max_num_seqs=8)  # its sampler holds a canvas per request
    return batch


def check_lora(args: EngineArgs, architecture: str) -> None:
    """Refuse adapters of a model whose class has no place for them.

    Raises:
        UnsupportedError: vLLM stops while it loads such a model.
    """
    if args.enable_lora and architecture in read_json(__file__, "no_lora.json")["architectures"]:
        raise UnsupportedError(
            f"{architecture} does not support LoRA yet (vLLM 0.33); leave --enable-lora out"
        )
