"""Every step of a workload, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .engine import Engine
from .feed import Feed
from .settings import EngineSettings
from .step import Step
from .types import StepRecord, TraceRequest


class EngineRun:
    """One run of a trace; a ``SchedulerRun``."""

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
