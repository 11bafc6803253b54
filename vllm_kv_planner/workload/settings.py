"""``EngineSettings``: all that scheduling depends on, made from a planned engine."""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd, lcm

from ..errors import InputError, UnsupportedError
from ..kv_cache.specs import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    RequestLimits,
    SlidingWindowSpec,
)
from ..records import dataclass


@dataclass(frozen=True, kw_only=True)
class GroupSettings:
    """One KV cache group.

    Attributes:
        spec: What stands for its layers.
        block_size: Tokens of one block, over all ranks of decode context parallel together.
        admission_cap: Blocks that a request is admitted with at most; None: all of its tokens'
            (vLLM 0.33 ``get_manager_for_kv_cache_spec``).
    """

    spec: KVCacheSpec
    block_size: int
    admission_cap: int | None = None


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What vLLM's scheduler and KV cache manager are made with; vLLM 0.33's defaults.

    Attributes:
        num_gpu_blocks: Blocks, the null block included.
        groups: The KV cache groups.
        max_model_len: Tokens of one request, outputs included.
        max_num_seqs: Requests that may run at once (``max_num_active_seqs`` where that is given).
        max_num_batched_tokens: Tokens of one step.
        token_budget: Tokens that the scheduler gives out in a step: ``max_num_scheduled_tokens``
            where that is given, else the same.
        enable_prefix_caching: Whether requests find each other's blocks.
        enable_chunked_prefill: Whether a prompt may be computed over several steps.
        long_prefill_token_threshold: Most tokens of one prompt in a step that others wait for; 0:
            no such limit.
        long_prefill_token_threshold_adaptive: Whether that limit is at least everybody's equal
            share of a step.
        scheduling_policy: ``fcfs``, or ``priority``: all of one priority, so by arrival.
        prefill_schedule_interval: Steps from one that computes prompts to the next that may.
        async_scheduling: Whether a step is scheduled before the last one's output is back.
        max_concurrent_batches: Steps in flight at once, at most.
        pipeline_parallel_size: Stages; a request decodes once in so many steps.
        scheduler_block_size: Common multiple of the groups' block sizes.
        hash_block_size: Tokens that one block name stands for.
        watermark_blocks: Blocks kept free when others run already.
        reserve_full_prompt: Whether a request is admitted only if its whole prompt fits
            (``scheduler_reserve_full_isl``).
        notes: What the requests are assumed not to have.
    """

    num_gpu_blocks: int
    groups: tuple[GroupSettings, ...]
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    token_budget: int
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    long_prefill_token_threshold_adaptive: bool = False
    scheduling_policy: str = "fcfs"
    prefill_schedule_interval: int = 1
    async_scheduling: bool = True
    max_concurrent_batches: int = 2
    pipeline_parallel_size: int = 1
    scheduler_block_size: int
    hash_block_size: int
    watermark_blocks: int = 0
    reserve_full_prompt: bool = True
    notes: tuple[str, ...] = ()


def group_settings(
    specs: Iterable[KVCacheSpec], limits: RequestLimits
) -> tuple[GroupSettings, ...]:
    """The groups, with the caps that vLLM admits requests with."""
    groups = []
    for spec in specs:
        ranks = limits.decode_context_parallel_size if spec.dcp_sharded else 1
        cap = None
        if isinstance(spec, (SlidingWindowSpec, ChunkedLocalAttentionSpec)):
            cap = spec.blocks_per_request(limits)
        groups.append(
            GroupSettings(spec=spec, block_size=spec.block_size * ranks, admission_cap=cap)
        )
    return tuple(groups)


def block_sizes(
    groups: tuple[GroupSettings, ...],
    *,
    enable_prefix_caching: bool,
    mamba_cache_mode: str = "none",
    decode_context_parallel_size: int = 1,
) -> tuple[int, int]:
    """The scheduler's block size, and how many tokens one block name stands for.

    Source: vLLM 0.33 ``kv_cache_utils.resolve_kv_cache_block_sizes``.

    Raises:
        UnsupportedError: Names finer than a recurrent state's block.
    """
    sizes = [group.block_size for group in groups]
    if len(sizes) <= 1:
        size = sizes[0] if sizes else 1
        return size, size
    common = lcm(*sizes)
    has_states = any(isinstance(group.spec, MambaSpec) for group in groups)
    if not enable_prefix_caching or (has_states and mamba_cache_mode != "align"):
        return common, common
    named = [group.block_size for group in groups if group.spec.prefix_cacheable] or sizes
    finest = gcd(*named)
    if hits_inside_blocks(groups, finest, decode_context_parallel_size):
        raise UnsupportedError(
            "workload: prefix-cache hits inside a block of recurrent states are not simulated; "
            "--no-enable-prefix-caching, or the same --mamba-block-size as the attention's blocks"
        )
    return common, finest


def hits_inside_blocks(groups: tuple[GroupSettings, ...], finest: int, ranks: int) -> bool:
    """Whether hits end inside a block (vLLM 0.33 ``partial_hash_hits_enabled``)."""
    states = [group.spec.block_size for group in groups if isinstance(group.spec, MambaSpec)]
    if not any(size > finest or (ranks > 1 and size == finest) for size in states):
        return False
    return all(
        isinstance(group.spec, (FullAttentionSpec, MambaSpec))
        or not group.spec.prefix_cacheable
        or group.block_size == finest
        for group in groups
    )


def check_groups(groups: tuple[GroupSettings, ...]) -> None:
    """Refuse what has no rule here.

    Raises:
        UnsupportedError: Which, and what can be asked instead.
        InputError: A request of the full length cannot be held.
    """
    for group in groups:
        if group.spec.kind == "cross_attention":
            raise UnsupportedError("workload: encoder-decoder models are not simulated")
        if getattr(group.spec, "bounded_replay", False):
            raise UnsupportedError(
                "workload: windows that are computed again after a prefix-cache hit (DeepSeek-V4 "
                "with bounded replay) are not simulated; --no-swa-bounded-replay"
            )
        if group.block_size < 1:
            raise InputError(f"block_size {group.block_size}: at least 1")
