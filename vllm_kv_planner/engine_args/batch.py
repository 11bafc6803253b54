"""How many tokens and requests a step holds: vLLM 0.33's defaults and caps.

Restates ``EngineArgs.get_batch_defaults`` and
``_set_default_max_num_seqs_and_batched_tokens_args`` (vllm/engine/arg_utils.py), and
``SchedulerConfig.__post_init__`` and ``verify_max_model_len`` (vllm/config/scheduler.py).
"""

from __future__ import annotations

from ..errors import InputError
from ..records import dataclass
from .engine_args import EngineArgs, UsageContext

GIB = 1 << 30
LARGE_MEMORY = 160 * GIB  # B200 and up
MIDDLE_MEMORY = 70 * GIB  # H100 and up, but not A100 (vLLM pull request 17885) and GB10
_BATCHED_DP_MOE_TOKENS = 256  # SchedulerConfig.DEFAULT_MAX_NUM_BATCHED_TOKENS_FOR_BATCHED_DP


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
) -> BatchSizes:
    """By device and use, before caps.

    ``device_memory_bytes`` is what vLLM's platform reports: NVML's total on NVIDIA, not
    PyTorch's (``GPU.batch_defaults_memory_bytes``).
    """
    server = usage_context == "server"
    if device_memory_bytes >= LARGE_MEMORY:
        return BatchSizes(16384, 1024)
    if (
        device_memory_bytes >= MIDDLE_MEMORY
        and "a100" not in device_name.lower()
        and compute_capability != (12, 1)
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
) -> BatchSizes:
    """The user's sizes, or defaults within vLLM's caps.

    ``min_mm_tokens`` is the largest single image, video or audio in tokens, for multimodal
    prefix-LM models that state one; it lifts the default. Raises InputError where vLLM
    refuses (``check_batch_sizes``).
    """
    tokens = args.max_num_batched_tokens
    seqs = args.max_num_seqs
    if tokens is None:
        tokens = (
            _BATCHED_DP_MOE_TOKENS if uses_batched_dp_moe(args) else defaults.max_num_batched_tokens
        )
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
    sizes = BatchSizes(tokens, seqs)
    check_batch_sizes(args, sizes, max_model_len=max_model_len, chunked_prefill=chunked_prefill)
    return sizes


def check_batch_sizes(
    args: EngineArgs, sizes: BatchSizes, *, max_model_len: int, chunked_prefill: bool
) -> None:
    """Raise InputError in vLLM's words for sizes that do not go together."""
    tokens, seqs = sizes.max_num_batched_tokens, sizes.max_num_seqs
    if tokens < max_model_len and not chunked_prefill:
        raise InputError(
            f"max_num_batched_tokens ({tokens}) is smaller than max_model_len ({max_model_len}), "
            "and chunked prefill is off; increase --max-num-batched-tokens or decrease "
            "--max-model-len"
        )
    if tokens < seqs:
        raise InputError(
            f"max_num_batched_tokens ({tokens}) must be greater than or equal to "
            f"max_num_seqs ({seqs})"
        )
    active = args.max_num_active_seqs
    if active is not None and active > seqs:
        raise InputError(
            f"max_num_active_seqs ({active}) cannot be greater than max_num_seqs ({seqs})"
        )
    threshold = args.long_prefill_token_threshold
    if threshold > max_model_len:
        raise InputError(
            f"long_prefill_token_threshold ({threshold}) cannot be greater than the "
            f"max_model_len ({max_model_len})"
        )


def check_item_fits(sizes: BatchSizes, item: int | None) -> None:
    """Raise InputError for an image, video or audio that must go in one step and does not.

    Source: ``compute_mm_encoder_budget`` (vllm/v1/core/encoder_cache_manager.py).
    """
    tokens = sizes.max_num_batched_tokens
    if item is not None and item > tokens:
        raise InputError(
            f"Chunked MM input disabled but max_tokens_per_mm_item ({item}) is larger than "
            f"max_num_batched_tokens ({tokens}): --max-num-batched-tokens {item} or more, or "
            "--language-model-only"
        )


def uses_batched_dp_moe(args: EngineArgs) -> bool:
    """``ParallelConfig.use_batched_dp_moe`` (vllm/config/parallel.py)."""
    return (
        args.all2all_backend in ("deepep_low_latency", "nixl_ep")
        and args.enable_expert_parallel
        and args.data_parallel_size > 1
    )
