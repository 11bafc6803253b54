"""A workload run by vLLM's own ``Scheduler`` and ``KVCacheManager``, without a model.

They run in the child process that planned the engine. Requests go there and records come back a
batch at a time, so a trace may be as long as it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..capacity.workload.types import StepRecord, TraceRequest
from ..errors import InputError
from ..gpu.detect import present_gpus
from ..plan_types import Plan
from .client import DEFAULT_GPU, Asked, VLLMPlanner

if TYPE_CHECKING:
    from ..capacity.request import PlanRequest

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
            scheduler_flags: Flags of vLLM that matter to the schedule only and that
                ``EngineArgs`` does not hold (``scheduling_policy``, ``watermark``, …).
            planner: The planner whose process runs it; default: the one that all share.

        Raises:
            PlannerError: vLLM's refusal, or why it cannot be asked, in one line.
        """
        if planner is None:
            from .shared import shared_planner

            planner = shared_planner()
        asked = _ask(
            planner, request, {"concurrency": concurrency, "flags": dict(scheduler_flags or {})}
        )
        self._child = asked.child
        self.settings: dict[str, Any] = asked.answer.pop("scheduler", {})
        self.plan: Plan = asked.plan(request.notes)
        if not self.settings:
            raise InputError(f"workload: the engine does not start: {'; '.join(self.plan.notes)}")
        self._trace = iter(trace)
        self._step_time = 1.0 if step_time is None else step_time
        self._child.conversing = True

    def steps(self) -> Iterator[StepRecord]:
        """Every step until all requests have ended; once."""
        try:
            while True:
                turn = self._child.read("turn")
                for record in turn["records"]:
                    yield step_record(record)
                if turn["ended"]:
                    self._child.conversing = False
                    return
                self._child.send(self._requests() if turn["wants"] else {})
        except InputError:
            self._child.conversing = False  # refused: the child waits for the next request
            raise
        finally:
            self.close()

    def close(self) -> None:
        """End the run, wherever it is."""
        if not self._child.conversing:
            return
        self._child.conversing = False
        if self._child.is_alive:
            self._child.close()

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


def run_workload_with_vllm(
    request: PlanRequest,
    trace: Iterable[TraceRequest],
    *,
    concurrency: int | None = None,
    step_time: float | None = None,
    progress: Callable[[int], None] | None = None,
    planner: VLLMPlanner | None = None,
) -> Iterator[StepRecord]:
    """Every step of a trace in vLLM's scheduler; ``progress`` hears how many requests have ended.

    Raises:
        PlannerError: vLLM's refusal, or why it cannot be asked, in one line.
    """
    ended = 0
    with VLLMRun(
        request, trace, concurrency=concurrency, step_time=step_time, planner=planner
    ) as run:
        for record in run.steps():
            ended += len(record.finished)
            if progress is not None and record.finished:
                progress(ended)
            yield record


def step_record(record: list[Any]) -> StepRecord:
    """The record of a row as the child writes it; its clock is left out."""
    return StepRecord(
        step=record[0],
        scheduled={int(number): tokens for number, tokens in record[2].items()},
        admitted=tuple(record[3]),
        preempted=tuple(record[4]),
        finished=tuple(record[5]),
        cached_tokens=tuple(record[6]),
        running=record[7],
        waiting=record[8],
        used_blocks=record[9],
    )


def _ask(planner: VLLMPlanner, request: PlanRequest, workload: dict[str, Any]) -> Asked:
    """Plan; memory that vLLM would measure on the GPU is predicted by the stand-alone planner."""
    from ..records import replace

    gpu = request.gpu if request.gpu is not None else next(iter(present_gpus()), None)
    _, device = planner.child(gpu, default_gpu=DEFAULT_GPU)
    args = request.args
    given = args.kv_cache_memory_bytes is not None or args.num_gpu_blocks_override is not None
    if device is not None and not given:
        predicted = replace(request, planner="standalone").plan()
        args = replace(args, kv_cache_memory_bytes=predicted.memory.available_kv_cache_bytes)
    return planner.ask(
        args,
        found=request.found,
        gpu=gpu,
        vllm_version=request.vllm_version,
        environment=request.environment,
        workload=workload,
    )
