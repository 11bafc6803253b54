"""``run_workload``: a planned engine and a trace in, what really runs out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

from ..engine_args.value_types import shown
from ..errors import InputError
from ..planning.request import PlanRequest
from ..workload.engine import Engine
from ..workload.fast import FastEngine, can_be_fast
from ..workload.feed import Counts, Feed, check_request
from ..workload.from_plan import planned_settings
from ..workload.outcome import notes_of
from ..workload.queues import Arrived, Request, Step
from ..workload.statistics import Statistics
from ..workload.types import EngineSettings, SchedulerFlags, StepRecord, TraceRequest

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
        feed,
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
    """The requests of a trace, each looked at as it is read."""
    if not isinstance(trace, Iterable):
        raise InputError(f"trace: {shown(trace)} is not a sequence of TraceRequest")

    def checked(each: object) -> TraceRequest:
        if not isinstance(each, TraceRequest):
            raise InputError(f"trace: {shown(each)} is not a TraceRequest")
        return each

    return map(checked, trace)


def check_run(concurrency: int | None, step_time: float | None, scheduler: str) -> None:
    """Refuse what no run can have."""
    is_whole = type(concurrency) is int and 1 <= concurrency <= MOST_CLIENTS
    if concurrency is not None and not is_whole:
        valid = f"a whole number of clients, 1 to {MOST_CLIENTS:,}"
        raise InputError(f"concurrency {shown(concurrency)}: {valid}")
    is_time = type(step_time) in (int, float) and 1e-6 <= (step_time or 0) <= 3600
    if step_time is not None and not is_time:
        raise InputError(f"step_time {shown(step_time)}: seconds of one step, 1e-6 to 3600")
    if scheduler not in ("standalone", "vllm"):
        raise InputError(f"scheduler {shown(scheduler)}: standalone or vllm")


def run_with_vllm(
    request: PlanRequest,
    trace: Iterable[TraceRequest],
    *,
    concurrency: int | None,
    step_time: float | None,
    progress: Callable[[int], None] | None,
    scheduler_flags: Mapping[str, Any] | None,
) -> WorkloadResult:
    """``run_workload`` with ``scheduler="vllm"``; its arguments are checked."""
    from ..vllm_adapter.workload import VLLMRun

    seen = SeenTrace(trace, concurrency=concurrency, step_time=step_time)
    with VLLMRun(
        request,
        seen.stream(),
        concurrency=concurrency,
        step_time=step_time,
        scheduler_flags=scheduler_flags,
    ) as run:
        settings = settings_told(run.settings)
        seen.max_model_len = settings.max_model_len
        statistics = Statistics(settings)
        for record in run.steps():
            seen.add(record, statistics, settings)
            if progress is not None and record.finished:
                progress(seen.ended + seen.refused)
        seen.end(statistics)
        if progress is not None:
            progress(seen.ended + seen.refused)
        plan = run.plan
    return statistics.result(
        plan,
        seen,
        scheduler="vllm",
        concurrency=concurrency,
        step_time=step_time,
        notes=(*plan.notes, *notes_of(plan)),
    )


def settings_told(told: Mapping[str, Any]) -> EngineSettings:
    """What the figures need of vLLM's settings."""
    tokens = told["max_num_batched_tokens"]
    same = (
        *("num_gpu_blocks", "max_model_len", "max_num_batched_tokens", "enable_prefix_caching"),
        *("max_concurrent_batches", "prefill_schedule_interval", "scheduler_block_size"),
        "hash_block_size",
    )
    return EngineSettings(
        groups=(),
        max_num_seqs=told["max_num_active_seqs"] or told["max_num_seqs"],
        token_budget=min(tokens, told["max_num_scheduled_tokens"] or tokens),
        **{name: told[name] for name in same},
    )


class SeenTrace(Counts):
    """A trace on its way to vLLM, and what the records say became of it."""

    def __init__(
        self, trace: Iterable[TraceRequest], *, concurrency: int | None, step_time: float | None
    ) -> None:
        super().__init__()
        self.max_model_len = 1 << 60
        self._trace = trace
        self._clients = concurrency
        self._step_time = step_time or 1.0
        self._there: dict[int, Request] = {}
        self._is_read = False
        self._clock, self._last_join, self._admitted = -1, 0, 0
        self._free_since: deque[int] = deque()
        self._leaving: deque[tuple[int, ...]] = deque()

    def stream(self) -> Iterator[TraceRequest]:
        """The trace; its requests are noted as they pass."""
        before = 0.0 if self._clients is None else None
        for number, each in enumerate(self._trace):
            check_request(number, each, before)
            before = None if before is None else each.arrival
            self.requests += 1
            yield each
            if each.prompt_tokens >= self.max_model_len:
                self.refused += 1
                continue
            end = each.prompt_tokens + each.output_tokens
            self.cut += end > self.max_model_len
            join = 0 if self._clients else ceil(each.arrival / self._step_time)
            self._last_join = max(join, self._last_join)
            arrived = Arrived(number, 0.0, join, each.prompt_tokens, each.output_tokens, ())
            self._there[number] = Request(arrived, min(end, self.max_model_len), 0, 1)
        self._is_read = True

    def add(self, record: StepRecord, statistics: Statistics, settings: EngineSettings) -> None:
        """A step of vLLM's."""
        there = self._there
        step = Step(0, 0, False)
        step.running, step.waiting = record.running, record.waiting
        step.used_blocks = record.used_blocks
        step.tokens = sum(record.scheduled.values())
        step.limit = likely_limit(record, step.tokens, settings)
        # Steps that compute nothing have no record: who comes back unseen was preempted there.
        unseen = [number for number in record.admitted if there[number].running]
        step.preempted = [there[number] for number in (*unseen, *record.preempted)]
        for request in step.preempted:
            request.lost, request.computed = request.computed, 0
            request.preemptions += 1
            request.running = False
        self._clock += 1
        for number, found in zip(record.admitted, record.cached_tokens, strict=True):
            request = there[number]
            request.computed = found
            request.running = True
            self._note_join(request)
            step.admitted.append((request, found))
        for number, tokens in record.scheduled.items():
            there[number].computed += tokens
        statistics.add_step(step, is_fed=self._is_fed(), clock=self._clock)
        self._leaving.append(record.finished)
        if len(self._leaving) == settings.max_concurrent_batches:
            self._take_back(statistics)

    def end(self, statistics: Statistics) -> None:
        """The last outputs are back."""
        while self._leaving:
            self._take_back(statistics)

    def _take_back(self, statistics: Statistics) -> None:
        """The output of the oldest step in flight is back: some requests have ended."""
        finished = self._leaving.popleft()
        statistics.add_finished([self._there.pop(number) for number in finished])
        self.ended += len(finished)
        self._free_since.extend([self._clock + 1] * len(finished))

    def _is_fed(self) -> bool:
        """Whether requests are still to come; a client sends one when an output is back."""
        if not self._is_read:
            return True
        if self._clients is None:
            return self._last_join > self._clock
        return self.requests - self.refused > self._clients + self.ended

    def _note_join(self, request: Request) -> None:
        """When a request joined that is admitted now: an idle engine jumps to that time."""
        if request.preemptions:
            return
        self._admitted += 1
        if self._clients is None:
            self._clock = max(self._clock, request.joined)
        elif self._admitted > self._clients and self._free_since:
            request.joined = min(self._free_since.popleft(), self._clock)


def likely_limit(record: StepRecord, tokens: int, settings: EngineSettings) -> str:
    """What kept the first waiting request out; records do not say."""
    if not record.waiting or record.preempted:
        return "blocks" if record.waiting else ""
    if tokens >= settings.token_budget:
        return "tokens"
    if record.running >= settings.max_num_seqs:
        return "slots"
    return "blocks"
