"""``run_workload``: a planned engine and a trace in, what really runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..planning.request import PlanRequest
from ..workload.engine import Engine
from ..workload.fast import FastEngine, can_be_fast
from ..workload.feed import Feed
from ..workload.flags import SchedulerFlags
from ..workload.from_plan import planned_settings
from ..workload.outcome import notes_of
from ..workload.settings import EngineSettings
from ..workload.statistics import Statistics
from ..workload.types import TraceRequest

if TYPE_CHECKING:
    from ..planning.types import Plan
    from ..workload.result import WorkloadResult

MOST_CLIENTS = 1_000_000


def run_workload(
    request: PlanRequest,
    trace: Iterable[TraceRequest],
    *,
    concurrency: int | None = None,
    step_time: float | None = None,
    progress: Callable[[int], None] | None = None,
    scheduler: str = "standalone",
    scheduler_flags: Mapping[str, Any] | None = None,
    plan: Plan | None = None,
) -> WorkloadResult:
    """Run a trace on vLLM's scheduling rules, and say what it was like.

    Args:
        request: The engine.
        trace: Requests in the order they arrive; read one at a time, once.
        concurrency: Clients of a closed loop, each with one request at a time: the next one of the
            trace arrives when one has ended, whatever its arrival says.
        step_time: Seconds of one step, where arrivals are in seconds.
        progress: Called with the number of requests that have ended, refused ones included.
        scheduler: ``standalone``, or ``vllm`` for vLLM's own scheduler.
        scheduler_flags: vLLM's flags that no plan knows, by name (``SchedulerFlags``).
        plan: The engine's plan, if it is made already.

    Raises:
        PlannerError: The engine cannot be planned or does not start, the trace is wrong, or
            something is not simulated; one line says what and where.
    """
    check_run(concurrency, step_time, scheduler)
    if not isinstance(request, PlanRequest):
        raise InputError("request: not a PlanRequest, as plan_request() makes it")
    trace = checked_trace(trace)
    if scheduler == "vllm":
        from .workload_observed import run_with_vllm

        return run_with_vllm(
            request,
            trace,
            concurrency=concurrency,
            step_time=step_time,
            progress=progress,
            scheduler_flags=scheduler_flags,
        )
    settings, plan = planned_settings(request, SchedulerFlags.of(scheduler_flags), plan)
    feed = Feed(trace, settings, concurrency=concurrency, step_time=step_time)
    return simulate(settings, feed, progress).result(
        plan,
        feed.counts,
        scheduler=scheduler,
        concurrency=concurrency,
        step_time=step_time,
        notes=(*plan.notes, *settings.notes, *notes_of(plan)),
    )


def simulate(
    settings: EngineSettings, feed: Feed, progress: Callable[[int], None] | None = None
) -> Statistics:
    """Run all requests of ``feed``."""
    engine: Engine = (FastEngine if can_be_fast(settings) else Engine)(settings)
    statistics = Statistics(settings)
    told = 0
    while True:
        feed.give(engine)
        if engine.is_idle:
            break
        step, done = engine.turn()
        if step is not None:
            statistics.add_step(step, is_fed=not feed.is_over, clock=feed.clock)
            feed.clock += step.tokens > 0
        if done is not None and done.finished:
            feed.finished(len(done.finished))
            statistics.add_finished(done.finished)
        elif step is not None and isinstance(engine, FastEngine):
            skipped = engine.skip(step, feed.steps_to_next())
            if skipped:
                seen = len(engine.running), len(engine.waiting), engine.cache.used, engine.quiet
                statistics.add_alike(skipped, seen, step.limit, is_fed=not feed.is_over)
                feed.clock += skipped
        if progress is not None and feed.ended != told:
            told = feed.ended
            progress(told)
    return statistics


def checked_trace(trace: Iterable[TraceRequest]) -> Iterator[TraceRequest]:
    """The requests of a trace.

    Raises:
        InputError: It is no such thing; also while it is read.
    """
    from ..engine_args.value_types import shown

    if not isinstance(trace, Iterable):
        raise InputError(f"trace: {shown(trace)} is no sequence of TraceRequest")

    def requests() -> Iterator[TraceRequest]:
        for each in trace:
            if not isinstance(each, TraceRequest):
                raise InputError(f"trace: {shown(each)} is no TraceRequest")
            yield each

    return requests()


def check_run(concurrency: int | None, step_time: float | None, scheduler: str) -> None:
    """Refuse what no run can have.

    Raises:
        InputError: Which, and what is valid.
    """
    from ..engine_args.value_types import shown

    if concurrency is not None and (
        isinstance(concurrency, bool)
        or not isinstance(concurrency, int)
        or not 1 <= concurrency <= MOST_CLIENTS
    ):
        raise InputError(
            f"concurrency {shown(concurrency)}: a whole number of clients, 1 to {MOST_CLIENTS:,}"
        )
    if step_time is not None and (
        isinstance(step_time, bool)
        or not isinstance(step_time, int | float)
        or not 1e-6 <= step_time <= 3600
    ):
        raise InputError(f"step_time {shown(step_time)}: seconds of one step, 1e-6 to 3600")
    if scheduler not in ("standalone", "vllm"):
        raise InputError(f"scheduler {shown(scheduler)}: standalone or vllm")
