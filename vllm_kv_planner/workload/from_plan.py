"""``EngineSettings`` of an engine that is planned for."""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd, lcm
from typing import TYPE_CHECKING

from ..errors import InputError, UnsupportedError
from ..kv_cache.specs import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    RequestLimits,
    SlidingWindowSpec,
)
from ..planning.standalone import StandalonePlan, plan_blocks
from ..planning.types import BORDERLINE, Plan
from .types import EngineSettings, GroupSettings, SchedulerFlags

if TYPE_CHECKING:
    from ..engine_args.setup import EngineSetup
    from ..planning.request import PlanRequest


def planned_settings(
    request: PlanRequest, flags: SchedulerFlags | None = None, plan: Plan | None = None
) -> tuple[EngineSettings, Plan]:
    """What the engine's scheduler works with, and the plan it comes from."""
    from ..records import replace
    from ..version import VLLM_VERSION

    if request.vllm_version not in (None, VLLM_VERSION):
        raise UnsupportedError(
            f"workload: --vllm-version {request.vllm_version}: the rules are those of "
            f"{VLLM_VERSION}; leave it out"
        )
    made = StandalonePlan(replace(request, vllm_version=None))
    plan = plan or made.plan
    blocks = plan.kv_cache.num_gpu_blocks
    if blocks is None or not may_start(plan):
        raise InputError(f"workload: this engine does not start: {plan.limits[0]}")
    setup = made.setup
    length = replace(setup.resolved.length, max_model_len=plan.engine.max_model_len)
    setup = replace(setup, resolved=replace(setup.resolved, length=length))
    return settings_of(setup, blocks, flags or SchedulerFlags()), plan


def may_start(plan: Plan) -> bool:
    """Whether the engine fits, or fits if the prediction is a little too high."""
    blocks = plan.kv_cache.num_gpu_blocks
    return plan.fits or (plan.verdict == BORDERLINE and blocks is not None and blocks > 1)


def settings_of(setup: EngineSetup, num_gpu_blocks: int, flags: SchedulerFlags) -> EngineSettings:
    """The settings of a resolved engine."""
    args, resolved = setup.args, setup.resolved
    check_simulated(setup)
    blocks = plan_blocks(setup, (0,) * len(setup.cache.stages), setup.limits)
    specs = [group.spec for group in blocks.workers[0].groups] if blocks.workers else []
    groups = group_settings(specs, setup.limits)
    check_groups(groups)
    common, names = block_sizes(
        groups,
        enable_prefix_caching=resolved.caching.enable_prefix_caching,
        mamba_cache_mode=resolved.caching.mamba_cache_mode,
        decode_context_parallel_size=args.decode_context_parallel_size,
    )
    batch, tokens = resolved.batch, resolved.batch.max_num_batched_tokens
    return EngineSettings(
        num_gpu_blocks=num_gpu_blocks,
        groups=groups,
        max_model_len=resolved.length.max_model_len,
        max_num_seqs=args.max_num_active_seqs or batch.max_num_seqs,
        max_num_batched_tokens=tokens,
        token_budget=min(args.max_num_scheduled_tokens or tokens, tokens),
        enable_prefix_caching=resolved.caching.enable_prefix_caching,
        enable_chunked_prefill=resolved.caching.enable_chunked_prefill,
        long_prefill_token_threshold=args.long_prefill_token_threshold,
        long_prefill_token_threshold_adaptive=flags.long_prefill_token_threshold_adaptive,
        scheduling_policy=flags.scheduling_policy,
        prefill_schedule_interval=flags.prefill_schedule_interval,
        async_scheduling=resolved.runner.async_scheduling,
        max_concurrent_batches=resolved.runner.max_concurrent_batches,
        pipeline_parallel_size=args.pipeline_parallel_size,
        scheduler_block_size=common,
        hash_block_size=names,
        watermark_blocks=int(flags.watermark * num_gpu_blocks),
        reserve_full_prompt=flags.scheduler_reserve_full_isl,
        notes=assumed(setup),
    )


def assumed(setup: EngineSetup) -> tuple[str, ...]:
    """What a trace does not say, so that it is left out."""
    left_out = (
        (setup.facts.is_multimodal, "images, audio and video: prompts are text"),
        (setup.args.enable_lora, "LoRA adapters: max_loras keeps nobody waiting"),
    )
    return tuple(f"left out: {what}" for found, what in left_out if found)


def check_simulated(setup: EngineSetup) -> None:
    """Refuse engines whose steps depend on more than lengths."""
    args, facts = setup.args, setup.facts
    connected = args.kv_transfer_config is not None or args.kv_offloading_size is not None
    refused = (
        (setup.resolved.speculative is not None, "speculative decoding: how many drafts are right"),
        (facts.runner_type != "generate", "pooling models: they generate nothing"),
        (facts.is_encoder_decoder, "encoder-decoder models: the encoder's input"),
        (connected, "KV connectors: what they hold"),
        (args.prefix_match_unit is not None, "--prefix-match-unit: hits inside a block"),
        (args.diffusion_config is not None, "diffusion models: their canvas"),
    )
    for found, what in refused:
        if found:
            raise UnsupportedError(f"workload: {what}, is not simulated; leave it out")


def group_settings(
    specs: Iterable[KVCacheSpec], limits: RequestLimits
) -> tuple[GroupSettings, ...]:
    """The groups, with the caps that vLLM admits requests with."""
    groups = []
    for spec in specs:
        size = spec.block_size * (limits.decode_context_parallel_size if spec.dcp_sharded else 1)
        capped = isinstance(spec, (SlidingWindowSpec, ChunkedLocalAttentionSpec))
        cap = spec.blocks_per_request(limits) if capped else None
        groups.append(GroupSettings(spec=spec, block_size=size, admission_cap=cap))
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
    """Refuse what has no rule here."""
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
