"""What a workload is made of: requests, the engine's settings, and what one step did with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import InputError, UnknownNameError
from ..kv_cache.specs import KVCacheSpec
from ..records import dataclass, fields


class Segment(NamedTuple):
    """Tokens that other requests may have too, at the same place.

    Two requests share the blocks of their longest common run of segments from the first token on.
    """

    id: int | str
    tokens: int


class TraceRequest(NamedTuple):
    """One request as it arrives.

    Attributes:
        arrival: When, in engine steps (in seconds where a step time is given); 0 in a closed loop.
        prompt_tokens: Of the whole prompt, shared prefix included; at least 1.
        output_tokens: Tokens it generates before it ends; at least 1.
        prefix: Segments that the prompt begins with; what follows them is its own.
    """

    arrival: float
    prompt_tokens: int
    output_tokens: int
    prefix: tuple[Segment, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One scheduler step; requests are numbered in the order of the trace, from 0.

    Attributes:
        step: Number of the step, from 0; steps in which nothing is scheduled do not count.
        scheduled: Tokens of every request that runs in this step, by its number.
        admitted: Requests that came out of the waiting queue in this step, in that order;
            resumed ones (after a preemption) included.
        preempted: Requests preempted in this step, in that order.
        finished: Requests that ended with this step's output.
        cached_tokens: Prefix-cache hit of every request of ``admitted``, in tokens.
        running: Requests in the running queue after scheduling.
        waiting: Requests left in the waiting queue after scheduling.
        used_blocks: Blocks held by requests after scheduling (the null block not counted).
    """

    step: int
    scheduled: dict[int, int]
    admitted: tuple[int, ...]
    preempted: tuple[int, ...]
    finished: tuple[int, ...]
    cached_tokens: tuple[int, ...]
    running: int
    waiting: int
    used_blocks: int


@dataclass(frozen=True, kw_only=True)
class SchedulerFlags:
    """vLLM's names and defaults (0.33 ``vllm/config/scheduler.py``), checked when made.

    Attributes:
        scheduling_policy: ``fcfs`` or ``priority``.
        watermark: Share of all blocks kept free when a request is admitted, from 0 to less than 1.
        scheduler_reserve_full_isl: Whether a request is admitted only if all of its prompt fits.
        long_prefill_token_threshold_adaptive: Whether that threshold is at least an equal share.
        prefill_schedule_interval: Steps between those that compute prompts, from 1.
    """

    scheduling_policy: str = "fcfs"
    watermark: float = 0.0
    scheduler_reserve_full_isl: bool = True
    long_prefill_token_threshold_adaptive: bool = False
    prefill_schedule_interval: int = 1

    def __post_init__(self) -> None:
        if self.scheduling_policy not in ("fcfs", "priority"):
            raise _wrong("scheduling_policy", self.scheduling_policy, "fcfs or priority")
        mark = self.watermark
        if isinstance(mark, bool) or not isinstance(mark, int | float) or not 0 <= mark < 1:
            raise _wrong("watermark", mark, "a number from 0 to less than 1")
        for name in ("scheduler_reserve_full_isl", "long_prefill_token_threshold_adaptive"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, getattr(self, name), "true or false")
        interval = self.prefill_schedule_interval
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise _wrong("prefill_schedule_interval", interval, "a whole number, at least 1")

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> SchedulerFlags:
        """The flags by name."""
        if given is not None and not isinstance(given, Mapping):
            raise _wrong("scheduler_flags", given, "a mapping of names to values")
        known = ", ".join(each.name for each in fields(cls))
        for name in given or {}:
            if name not in known.split(", "):
                raise UnknownNameError(f"workload: scheduler flag {name}: one of {known}")
        return cls(**(given or {}))


def _wrong(name: str, value: object, valid: str) -> InputError:
    from ..engine_args.value_types import shown

    return InputError(f"--{name.replace('_', '-')} {shown(value)}: {valid}")


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
        max_num_seqs: Requests that may run at once (``max_num_active_seqs`` where that is given).
        token_budget: Tokens that the scheduler gives out in a step: ``max_num_scheduled_tokens``
            where that is given, else the same.
        long_prefill_token_threshold: Most tokens of one prompt in a step that others wait for; 0:
            no such limit.
        long_prefill_token_threshold_adaptive: Whether that limit is at least everybody's equal
            share of a step.
        scheduling_policy: ``fcfs``, or ``priority``: all of one priority, so by arrival.
        prefill_schedule_interval: Steps from one that computes prompts to the next that may.
        max_concurrent_batches: Steps in flight at once, at most.
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
