"""A workload run by vLLM's own ``Scheduler`` and ``KVCacheManager``, without a model.

They run in the child process that planned the engine. Requests go there and records come back a
batch at a time, so a trace may be as long as it likes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..errors import InputError, PlannerError
from ..planning.types import Plan
from ..workload.types import SchedulerFlags, StepRecord, TraceRequest
from .budget import plan_with_budget
from .client import VLLMPlanner
from .shared import installed_planner

if TYPE_CHECKING:
    from ..planning.request import PlanRequest

_BATCH = 256
"""Requests sent at a time."""


class VLLMRun:
    """One run of a trace in vLLM's scheduler; a ``SchedulerRun``, and a context manager.

    Attributes:
        plan: The engine, by vLLM's own planning code.
        settings: What decides the schedule, as vLLM resolved it: its names, and ``groups``.
    """

    def __init__(
        self,
        request: PlanRequest,
        trace: Iterable[TraceRequest],
        *,
        concurrency: int | None = None,
        step_time: float | None = None,
        scheduler_flags: Mapping[str, Any] | None = None,
        planner: VLLMPlanner | None = None,
    ) -> None:
        """Plan the engine and build its scheduler; nothing runs yet.

        Args:
            request: The engine.
            trace: Requests, arrivals never decreasing.
            concurrency: Clients of a closed loop, each with one request at a time; arrivals do
                not count then.
            step_time: Seconds of an engine step, where arrivals are in seconds.
            scheduler_flags: vLLM's flags that no plan knows, by name (``SchedulerFlags``).
            planner: The planner whose process runs it; default: the one that all share.

        Raises:
            PlannerError: vLLM's refusal, or why it cannot be asked, in one line.
        """
        SchedulerFlags.of(scheduler_flags)
        planner = planner or installed_planner()
        workload = {"concurrency": concurrency, "flags": dict(scheduler_flags or {})}
        self.settings: dict[str, Any] = {}

        def ask(request: PlanRequest, stage_memory: Sequence[int] | None = None) -> Plan:
            more: dict[str, Any] = {"workload": workload}
            if stage_memory is not None:
                more["stage_memory"] = list(stage_memory)
            asked = planner.ask(request, **more)
            self._child = asked.child
            self.settings = asked.answer.pop("scheduler", {})
            return asked.plan(request.notes)

        self.plan: Plan = plan_with_budget(
            request, ask, count=planner.plan_request, profile=planner.profile
        )
        if not self.settings:
            raise InputError(f"workload: this engine does not start: {self.plan.limits[0]}")
        self._trace = iter(trace)
        self._step_time = 1.0 if step_time is None else step_time
        self._turn: dict[str, Any] | None = None
        self._child.conversing = True
        self._over = False

    def steps(self) -> Iterator[StepRecord]:
        """Every step until all requests have ended; once.

        Raises:
            PlannerError: A request can never be scheduled, or vLLM's process failed.
        """
        try:
            while not self._over:
                turn = self._next_turn()
                for record in turn["records"]:
                    yield step_record(record)
                if not self._over:
                    self._reply(self._requests() if turn["wants"] else {})
        finally:
            self.close()

    def close(self) -> None:
        """End the run, wherever it is; the process is free for another then."""
        try:
            if not self._over and self._turn is None:
                self._next_turn()
            if not self._over:
                self._reply({"stop": True})
                self._next_turn()
        except PlannerError:
            self._finish()  # what it says no longer matters

    def _next_turn(self) -> dict[str, Any]:
        """What the child says next; it waits for a reply then, unless that was all."""
        try:
            turn = self._child.read("turn")
        except PlannerError:
            self._finish()
            raise
        self._turn = turn
        if turn["ended"]:
            self._finish()
        return turn

    def _reply(self, message: dict[str, Any]) -> None:
        self._turn = None
        self._child.send(message)

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._child.conversing = False

    def _requests(self) -> dict[str, Any]:
        """The next rows of the trace."""
        rows = [
            (each.arrival / self._step_time, each.prompt_tokens, each.output_tokens, each.prefix)
            for each in islice(self._trace, _BATCH)
        ]
        return {"requests": rows, "last": len(rows) < _BATCH}

    def __enter__(self) -> VLLMRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def step_record(row: list[Any]) -> StepRecord:
    """The record of a row as the child writes it; its clock is left out."""
    return StepRecord(
        step=row[0],
        scheduled={int(number): tokens for number, tokens in row[2].items()},
        admitted=tuple(row[3]),
        preempted=tuple(row[4]),
        finished=tuple(row[5]),
        cached_tokens=tuple(row[6]),
        running=row[7],
        waiting=row[8],
        used_blocks=row[9],
    )
