"""How many tokens and requests a step holds, which model runner runs it, how many are in flight.

Restates of vLLM 0.33: ``EngineArgs.get_batch_defaults`` and
``_set_default_max_num_seqs_and_batched_tokens_args`` (vllm/engine/arg_utils.py),
``SchedulerConfig.__post_init__`` and ``verify_max_model_len`` (vllm/config/scheduler.py);
``use_v2_model_runner``, ``_get_v2_model_runner_unsupported_features``, the async scheduling part of
``__post_init__``, ``max_concurrent_batches`` and ``_set_max_num_scheduled_tokens`` of
``VllmConfig`` (vllm/config/vllm.py).
"""

from __future__ import annotations

from ..errors import InputError
from ..records import dataclass
from ..units import GIB
from .engine_args import EngineArgs, EngineEnvironment, UsageContext
from .facts import ModelFacts
from .speculative import Speculative
from .versions import TODAY, PlanningRules

LARGE_MEMORY = 160 * GIB  # B200 and up
MIDDLE_MEMORY = 70 * GIB  # H100 and up, but not A100 (vLLM pull request 17885) and GB10
GB10 = (12, 1)
"""Steps like a small GPU: 0.33 says so, before it NVML told vLLM no total (platforms/cuda.py), and
a published start of 0.13 agrees."""
_BATCHED_DP_MOE_TOKENS = 256
"""``SchedulerConfig.DEFAULT_MAX_NUM_BATCHED_TOKENS_FOR_BATCHED_DP``: of replicas that step together
(``ParallelConfig.use_batched_dp_moe``)."""


@dataclass(frozen=True)
class BatchSizes:
    """A step's limits."""

    max_num_batched_tokens: int
    max_num_seqs: int

    @property
    def max_num_encoder_input_tokens(self) -> int:
        """Encoder budget, and encoder cache, in tokens: equal to max_num_batched_tokens."""
        return self.max_num_batched_tokens


def batch_defaults(
    *,
    device_memory_bytes: int,
    device_name: str,
    compute_capability: tuple[int, int] | None,
    usage_context: UsageContext,
    rules: PlanningRules = TODAY,
) -> BatchSizes:
    """By device, use and version, before caps.

    ``device_memory_bytes`` is what vLLM's platform reports: NVML's total on NVIDIA, not
    PyTorch's (``GPU.batch_defaults_memory_bytes``).
    """
    server = usage_context == "server"
    if device_memory_bytes >= LARGE_MEMORY and rules.largest_gpus_step_further:
        return BatchSizes(16384, 1024)
    if (
        device_memory_bytes >= MIDDLE_MEMORY
        and "a100" not in device_name.lower()
        and compute_capability != GB10
    ):
        return BatchSizes(8192 if server else 16384, 1024)
    return BatchSizes(2048 if server else 8192, 256)


def resolve_batch_sizes(
    args: EngineArgs,
    defaults: BatchSizes,
    *,
    max_model_len: int,
    chunked_prefill: bool,
    min_mm_tokens: int | None = None,
    shown_mm_tokens: int | None = None,
) -> BatchSizes:
    """The user's sizes, or defaults within vLLM's caps.

    ``min_mm_tokens`` is the largest single image, video or audio in tokens, for multimodal
    prefix-LM models that state one; it lifts the default. ``shown_mm_tokens`` is that of the
    kinds that may be shown: it goes in one step (``compute_mm_encoder_budget``,
    vllm/v1/core/encoder_cache_manager.py). Raises InputError where vLLM refuses.
    """
    tokens = args.max_num_batched_tokens
    seqs = args.max_num_seqs
    if tokens is None:
        replicas = args.enable_expert_parallel and args.data_parallel_size > 1
        batched = args.all2all_backend in ("deepep_low_latency", "nixl_ep") and replicas
        tokens = _BATCHED_DP_MOE_TOKENS if batched else defaults.max_num_batched_tokens
    if seqs is None:
        seqs = defaults.max_num_seqs
    if args.performance_mode == "throughput":
        tokens *= 2 if args.max_num_batched_tokens is None else 1
        seqs *= 2 if args.max_num_seqs is None else 1
    if args.max_num_batched_tokens is None:
        if not chunked_prefill:
            tokens = max(tokens, max_model_len)
        if min_mm_tokens is not None:
            tokens = max(tokens, min_mm_tokens)
        tokens = min(tokens, seqs * max_model_len)
    if args.max_num_seqs is None:
        seqs = min(seqs, tokens)
    refusal = _refusal(args, tokens, seqs, max_model_len, chunked_prefill, shown_mm_tokens)
    if refusal is not None:
        raise InputError(refusal)
    return BatchSizes(tokens, seqs)


def _refusal(
    args: EngineArgs,
    tokens: int,
    seqs: int,
    max_model_len: int,
    chunked_prefill: bool,
    item: int | None,
) -> str | None:
    """Why vLLM refuses sizes that do not go together, in its words."""
    active, threshold = args.max_num_active_seqs, args.long_prefill_token_threshold
    refusals = (
        (
            tokens < max_model_len and not chunked_prefill,
            f"max_num_batched_tokens ({tokens}) is smaller than max_model_len ({max_model_len}), "
            "and chunked prefill is off; increase --max-num-batched-tokens or decrease "
            "--max-model-len",
        ),
        (
            tokens < seqs,
            f"max_num_batched_tokens ({tokens}) must be greater than or equal to "
            f"max_num_seqs ({seqs})",
        ),
        (
            active is not None and active > seqs,
            f"max_num_active_seqs ({active}) cannot be greater than max_num_seqs ({seqs})",
        ),
        (
            threshold > max_model_len,
            f"long_prefill_token_threshold ({threshold}) cannot be greater than the "
            f"max_model_len ({max_model_len})",
        ),
        (
            item is not None and item > tokens,
            f"Chunked MM input disabled but max_tokens_per_mm_item ({item}) is larger "
            f"than max_num_batched_tokens ({tokens}): --max-num-batched-tokens {item} "
            "or more, or --language-model-only",
        ),
    )
    return next((why for is_wrong, why in refusals if is_wrong), None)


_ASYNC_ON_V1 = (
    *("eagle", "eagle3", "mtp", "dflash", "dspark"),
    *("extract_hidden_states", "ngram_gpu", "draft_model"),
)


@dataclass(frozen=True)
class Runner:
    """How steps are run."""

    uses_v2: bool
    """Model Runner V2 (else V1)."""
    async_scheduling: bool
    max_concurrent_batches: int
    """Steps whose blocks are held at once."""
    reason: str | None = None
    """Why not V2, or why not async, where vLLM says so."""


def resolve_runner(
    args: EngineArgs,
    facts: ModelFacts,
    speculative: Speculative | None,
    environment: EngineEnvironment,
) -> Runner:
    """Raises InputError where ``--async-scheduling`` or a runner is asked for in vain."""
    uses_v2, reason = _uses_v2(args, facts, speculative, environment)
    overlap, why_not = _async_scheduling(args, facts, speculative, uses_v2)
    if not uses_v2:
        _check_v1(args, facts, speculative, overlap)
    batches = args.pipeline_parallel_size
    if overlap and uses_v2:
        batches += 1
    elif overlap and batches == 1:  # V1 does not overlap with pipeline stages
        batches = 2
    return Runner(uses_v2, overlap, batches, reason or why_not)


def v2_unsupported(
    args: EngineArgs,
    facts: ModelFacts,
    speculative: Speculative | None,
    environment: EngineEnvironment,
) -> list[str]:
    """Features of this set-up that Model Runner V2 lacks, in vLLM's words."""
    stages = args.pipeline_parallel_size > 1
    lacking = [
        (
            args.distributed_executor_backend == "external_launcher" and stages,
            "pipeline parallelism with external_launcher",
        )
    ]
    if speculative is not None:
        method = speculative.method
        eagle = speculative.parallel_drafting and method not in ("dflash", "dspark")
        lacking += [
            (method in ("suffix", "custom_class"), f"speculative method '{method}'"),
            (eagle, "parallel drafting for EAGLE speculative decoding"),
            (speculative.use_heterogeneous_vocab, "heterogeneous-vocabulary draft models"),
        ]
    if args.enable_dbo or args.ubatch_size > 1:
        context_parallel = args.decode_context_parallel_size * args.prefill_context_parallel_size
        piecewise = str(args.compilation_config.get("cudagraph_mode", "")).upper() == "PIECEWISE"
        beside = (
            (args.enable_lora, "LoRA"),
            (speculative is not None, "speculative decoding"),
            (stages, "pipeline parallelism"),
            (context_parallel > 1, "context parallelism"),
            (facts.is_multimodal or facts.is_encoder_decoder, "multimodal models"),
            (facts.is_hybrid, "hybrid models"),
            (piecewise, "PIECEWISE CUDA graphs"),
            (args.mm_encoder_only, "encoder only models"),
        )
        if environment.use_v2_model_runner is None:
            lacking.append((True, "dual batch overlap"))
        else:
            lacking += [(there, f"dual batch overlap with {what}") for there, what in beside]
    return [what for there, what in lacking if there]


def _uses_v2(
    args: EngineArgs,
    facts: ModelFacts,
    speculative: Speculative | None,
    environment: EngineEnvironment,
) -> tuple[bool, str | None]:
    forced = environment.use_v2_model_runner
    if args.attention_config.get("hisparse_config") is not None:
        if forced is False:
            raise InputError("HiSparse requires Model Runner V2; remove VLLM_USE_V2_MODEL_RUNNER=0")
        return True, None
    if args.watermark_config is not None:
        return True, None
    lacking = v2_unsupported(args, facts, speculative, environment)
    if forced is not None:
        if forced and lacking:
            raise InputError(f"Model Runner V2 does not yet support: {', '.join(lacking)}")
        return forced, None if forced else "VLLM_USE_V2_MODEL_RUNNER=0"
    if lacking:
        return False, f"Model Runner V2 does not yet support {', '.join(lacking)}"
    return True, None


def _async_scheduling(
    args: EngineArgs, facts: ModelFacts, speculative: Speculative | None, uses_v2: bool
) -> tuple[bool, str | None]:
    if args.async_scheduling is False:
        return False, None
    why_not: str | None = None
    if not uses_v2:
        if speculative is not None and speculative.method not in _ASYNC_ON_V1:
            why_not = f"{speculative.method}-based speculative decoding"
        elif speculative is not None and speculative.disable_padded_drafter_batch:
            why_not = "disable_padded_drafter_batch=True"
        elif args.pipeline_parallel_size > 1:
            why_not = "pipeline parallelism"
    if args.async_scheduling:
        if why_not is not None:
            raise InputError(
                f"Async scheduling is not supported by the V1 model runner with {why_not}"
            )
        return True, None
    if facts.runner_type == "pooling":
        return False, "async scheduling is off for pooling models"
    if why_not is not None:
        return False, f"the V1 model runner cannot schedule ahead with {why_not}"
    return True, None


def _check_v1(
    args: EngineArgs, facts: ModelFacts, speculative: Speculative | None, overlap: bool
) -> None:
    lacking = (
        (args.prefill_context_parallel_size > 1, "prefill context parallel"),
        (
            args.pipeline_parallel_size > 1 and overlap,
            "pipeline parallelism with async scheduling",
        ),
        (
            speculative is not None and speculative.method == "dspark",
            "dspark speculative decoding",
        ),
        (facts.is_diffusion, "diffusion models"),
        (facts.architecture in ("Step5ForCausalLM", "Step5ForConditionalGeneration"), "Step5"),
    )
    found = [what for there, what in lacking if there]
    if found:
        raise InputError(f"Model Runner V1 does not support: {', '.join(found)}")
