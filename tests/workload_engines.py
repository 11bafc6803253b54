"""Small engines for workload tests, and what their steps looked like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from vllm_kv_planner.kv_cache.specs import (
    ChunkedLocalAttentionSpec,
    CircularBufferSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    RequestLimits,
    SlidingWindowSpec,
)
from vllm_kv_planner.workload.engine import Engine
from vllm_kv_planner.workload.fast import FastEngine
from vllm_kv_planner.workload.feed import Feed
from vllm_kv_planner.workload.from_plan import block_sizes, group_settings
from vllm_kv_planner.workload.queues import Step
from vllm_kv_planner.workload.types import (
    EngineSettings,
    StepRecord,
    TraceRequest,
)

HEADS: dict[str, int] = {"num_kv_heads": 1, "head_size": 1, "head_size_v": 1, "dtype_bytes": 2}


def full(block_size: int = 4) -> FullAttentionSpec:
    """A group that keeps everything."""
    return FullAttentionSpec(block_size=block_size, **HEADS)


def window(tokens: int, block_size: int = 4) -> SlidingWindowSpec:
    """A group that keeps a window."""
    return SlidingWindowSpec(block_size=block_size, sliding_window=tokens, **HEADS)


def chunks(tokens: int, block_size: int = 4) -> ChunkedLocalAttentionSpec:
    """A group that keeps a chunk."""
    return ChunkedLocalAttentionSpec(block_size=block_size, attention_chunk_size=tokens, **HEADS)


def ring(block_size: int = 4) -> CircularBufferSpec:
    """A group with one block a request."""
    return CircularBufferSpec(block_size=block_size, **HEADS)


def states(block_size: int, *, grid: int | None = None) -> MambaSpec:
    """A group of recurrent states; ``grid``: states can be left in the middle of a step."""
    return MambaSpec(
        block_size=block_size,
        state_bytes=8,
        num_prefill_checkpoint_blocks=0 if grid is None else 1,
        prefill_checkpoint_alignment=grid,
    )


def engine(specs: Sequence[KVCacheSpec], blocks: int, **changes: Any) -> EngineSettings:
    """Settings with ``blocks`` blocks that requests can have."""
    given: dict[str, Any] = {
        "max_model_len": 64,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 64,
        "enable_prefix_caching": False,
        "async_scheduling": False,
        **changes,
    }
    steps = 1 + given["async_scheduling"]
    limits = RequestLimits(
        max_model_len=given["max_model_len"],
        max_in_flight_tokens=steps * given["max_num_batched_tokens"],
    )
    groups = group_settings(specs, limits)
    common, names = block_sizes(
        groups,
        enable_prefix_caching=given["enable_prefix_caching"],
        mamba_cache_mode="align" if given["enable_prefix_caching"] else "none",
    )
    return EngineSettings(
        num_gpu_blocks=blocks + 1,
        groups=groups,
        token_budget=given["max_num_batched_tokens"],
        max_concurrent_batches=steps,
        scheduler_block_size=common,
        hash_block_size=names,
        **given,
    )


class EngineRun:
    """One run of a trace in our own engine, every step one after the other."""

    def __init__(
        self,
        settings: EngineSettings,
        trace: Iterable[TraceRequest],
        *,
        concurrency: int | None = None,
        step_time: float | None = None,
    ) -> None:
        self.engine = Engine(settings)
        self.feed = Feed(trace, settings, concurrency=concurrency, step_time=step_time)

    def steps(self) -> Iterator[StepRecord]:
        """Every step until all requests have ended; once."""
        engine, feed = self.engine, self.feed
        number = 0
        while True:
            feed.give(engine)
            if engine.is_idle:
                return
            step, done = engine.turn()
            if step is not None and step.scheduled:
                feed.clock += 1
            if done is None:
                continue
            feed.finished(len(done.finished))
            if done.scheduled:
                yield record(number, done)
                number += 1


def record(number: int, step: Step) -> StepRecord:
    """A step as the records have it."""
    return StepRecord(
        step=number,
        scheduled={each.number: tokens for each, tokens in step.scheduled.items()},
        admitted=tuple(each.number for each, _ in step.admitted),
        preempted=tuple(each.number for each in step.preempted),
        finished=tuple(each.number for each in step.finished),
        cached_tokens=tuple(found for _, found in step.admitted),
        running=step.running,
        waiting=step.waiting,
        used_blocks=step.used_blocks,
    )


def steps_of(
    settings: EngineSettings, trace: Sequence[TraceRequest], concurrency: int | None = None
) -> list[StepRecord]:
    """Every step."""
    return list(EngineRun(settings, trace, concurrency=concurrency).steps())


class Seen(NamedTuple):
    """A step, however the engine came to it; requests by number."""

    running: int
    waiting: int
    used_blocks: int
    tokens: int
    limit: str
    admitted: tuple[tuple[int, int], ...] = ()
    preempted: tuple[int, ...] = ()
    finished: tuple[int, ...] = ()


def seen_of(step: Step) -> Seen:
    """A step whose output is back."""
    return Seen(
        step.running,
        step.waiting,
        step.used_blocks,
        step.tokens,
        step.limit,
        tuple((request.number, found) for request, found in step.admitted),
        tuple(request.number for request in step.preempted),
        tuple(request.number for request in step.finished),
    )


class Run(NamedTuple):
    """What a run did, and the engine and feed at its end."""

    seen: list[Seen]
    skipped: int
    engine: Engine
    feed: Feed


def run(engine: Engine, feed: Feed) -> Run:
    """All steps of an engine, those it leaves out included."""
    skipped = 0
    scheduled: list[Step | Seen] = []
    while True:
        feed.give(engine)
        if engine.is_idle:
            seen = [each if isinstance(each, Seen) else seen_of(each) for each in scheduled]
            return Run(seen, skipped, engine, feed)
        step, done = engine.turn()
        if step is not None:
            scheduled.append(step)
            feed.clock += step.tokens > 0
        if done is not None:
            feed.finished(len(done.finished))
        if isinstance(engine, FastEngine) and step is not None and not (done and done.finished):
            count = engine.skip(step, feed.steps_to_next())
            alike = Seen(
                len(engine.running),
                len(engine.waiting),
                engine.cache.used,
                engine.quiet,
                step.limit,
            )
            scheduled += [alike] * count
            feed.clock += count
            skipped += count
