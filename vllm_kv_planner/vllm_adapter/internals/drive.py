"""vLLM's engine loop without a model: schedule, make up tokens, hand them back.

The loop is that of vLLM 0.33 ``v1/engine/core.py`` ``step`` and ``step_with_batch_queue``, which
are one loop: with a queue of one batch nothing is in flight while the next is scheduled.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from ...errors import UnsupportedError
from .made_up_requests import MadeUpRequests, Numbered, Row
from .names import name
from .scheduler import Engine

_ANY = 1 << 60
_STUCK_AFTER = 1000
"""Schedules in a row that give nothing to do, with nothing in flight, that mean it never will."""


class Batch(NamedTuple):
    """One schedule, until its output is processed."""

    output: Any
    sampling: frozenset[str]
    record: list[Any]


class Drive:
    """One run of a trace.

    A record is ``[step, clock, {number: tokens}, admitted, preempted, finished, cached_tokens,
    running, waiting, used_blocks]``; see ``StepRecord``.
    """

    def __init__(
        self, engine: Engine, trace: Iterator[Row], *, concurrency: int | None = None
    ) -> None:
        self.scheduler = engine.scheduler
        self.queue_size = engine.queue_size
        self.requests = MadeUpRequests(
            trace, engine.block_hasher, engine.settings["max_model_len"], timed=concurrency is None
        )
        self.output_of = name("ModelRunnerOutput")
        self.clock = self.steps = self.stuck = self.last_end = 0
        # no request takes longer, unless it begins again and again (``workload/watch.py``)
        self.patience = _STUCK_AFTER + 4 * engine.settings["max_model_len"] * every(engine)
        self.to_add = concurrency or 0
        self.backlog: deque[Numbered] = deque()
        # A step admits no more than this. What waits behind it is as good as in vLLM's queue, and
        # a row takes a hundredth of the memory of a request with its tokens and hashes. (The queue
        # is ordered by arrival with either policy; its length counts for one flag only.)
        self.most_waiting = 2 * engine.settings["max_num_seqs"]
        if engine.settings.get("long_prefill_token_threshold_adaptive"):
            self.most_waiting = _ANY
        self.preempted: list[int] = []
        self.running: set[str] = set()
        self._note_preemptions()

    def records(self) -> Iterator[list[Any]]:
        """One record a step, when its output is processed."""
        in_flight: deque[Batch] = deque()
        while True:
            self.add_requests()
            if self.scheduler.has_requests():
                batch = self.schedule(busy=any(each.record for each in in_flight))
                in_flight.append(batch)
                if len(in_flight) < self.queue_size and (
                    batch.record or self.scheduler.has_requests()
                ):
                    continue
            elif not in_flight:
                if self.requests.upcoming is None:
                    return
                self.clock = max(self.clock, math.ceil(self.requests.upcoming.arrival))
                continue
            batch = in_flight.popleft()
            self.process(batch)
            if batch.record:
                yield batch.record

    def add_requests(self) -> None:
        """Those that have arrived; in a closed loop, one for each that ended."""
        requests, waiting = self.requests, self.scheduler.waiting
        while requests.upcoming is not None and self._is_due(requests.upcoming):
            taken = requests.take()
            if taken is not None:  # one too long is refused, and its client sends the next
                self.backlog.append(taken)
                self.to_add -= 1
        while self.backlog and len(waiting) < self.most_waiting:
            self.scheduler.add_request(requests.make(*self.backlog.popleft()))

    def _is_due(self, row: Row) -> bool:
        return row.arrival <= self.clock if self.requests.timed else self.to_add > 0

    def schedule(self, *, busy: bool) -> Batch:
        """vLLM's schedule, and what it did."""
        scheduler = self.scheduler
        self.preempted = []
        before = self.running
        output = scheduler.schedule()
        running = [request.request_id for request in scheduler.running]
        self.running = set(running)
        tokens = output.num_scheduled_tokens
        if not tokens:
            self._check_stuck(busy)
            return Batch(output, frozenset(), [])
        self.stuck = 0
        admitted = [each for each in running if each not in before]
        computed = {
            each: scheduler.requests[each].num_computed_tokens - tokens[each] for each in admitted
        }
        pool = scheduler.kv_cache_manager.block_pool
        record = [
            self.steps,
            self.clock,
            {int(each): count for each, count in tokens.items()},
            [int(each) for each in admitted],
            self.preempted,
            [],
            [computed[each] for each in admitted],
            len(running),
            len(scheduler.waiting) + len(scheduler.kv_holding_waiting) + len(self.backlog),
            pool.num_gpu_blocks - 1 - pool.get_num_free_blocks(),
        ]
        self.steps += 1
        self.clock += 1
        self._check_ends()
        sampling = frozenset(
            each for each in tokens if not scheduler.requests[each].is_prefill_chunk
        )
        return Batch(output, sampling, record)

    def process(self, batch: Batch) -> None:
        """Hand back a token of every request that has all its tokens computed."""
        tokens = batch.output.num_scheduled_tokens
        ids = list(tokens)
        known = [each for each in ids if each in self.scheduler.requests]
        self.scheduler.update_from_output(
            batch.output,
            self.output_of(
                req_ids=ids,
                req_id_to_index={each: index for index, each in enumerate(ids)},
                sampled_token_ids=[
                    [self.requests.own_token(int(each))] if each in batch.sampling else []
                    for each in ids
                ],
            ),
        )
        ended = [each for each in known if each not in self.scheduler.requests]
        self.running.difference_update(ended)
        self.to_add += len(ended)
        if ended or not self.scheduler.requests:
            self.last_end = self.steps
        if batch.record:
            batch.record[5] = [int(each) for each in ended]

    def _note_preemptions(self) -> None:
        """vLLM tells who was preempted as a set; the order is that of the calls."""
        preempt = self.scheduler._preempt_request

        def noting(request: Any, *args: Any, **kwargs: Any) -> Any:
            self.preempted.append(int(request.request_id))
            self.running.discard(request.request_id)
            return preempt(request, *args, **kwargs)

        self.scheduler._preempt_request = noting

    def _check_ends(self) -> None:
        """Refuse requests that vLLM would throw out and begin again for ever."""
        if self.steps - self.last_end > self.patience:
            raise UnsupportedError(
                f"workload: vLLM would go on for ever at step {self.steps}: requests lose their "
                "blocks and begin again, and none ends"
            )

    def _check_stuck(self, busy: bool) -> None:
        """Refuse a workload that vLLM would wait on for ever."""
        if busy or self.scheduler.get_num_unfinished_requests() == 0:
            self.stuck = 0
            return
        self.stuck += 1
        if self.stuck > _STUCK_AFTER:
            waiting = next(iter(self.scheduler.waiting), None)
            who = "" if waiting is None else f"; request {int(waiting.request_id)} waits first"
            raise UnsupportedError(
                f"workload: vLLM would wait for ever at step {self.steps}: no request can be "
                f"scheduled within these blocks and token limits{who}"
            )


def every(engine: Engine) -> int:
    """Steps from one in which a request may run to the next, at most."""
    settings = engine.settings
    stages = settings.get("pipeline_parallel_size") or 1
    return int((settings.get("prefill_schedule_interval") or 1) * stages)
