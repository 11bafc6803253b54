"""vLLM's scheduling rules, step by step: who runs, who waits, who is preempted.

Source: vLLM 0.33 ``v1/core/sched/scheduler.py`` ``Scheduler.schedule``, ``update_from_output``,
``_preempt_request``; ``v1/core/sched/async_scheduler.py``; ``v1/engine/core.py`` ``step`` and
``step_with_batch_queue``.
"""

from __future__ import annotations

from collections import deque

from ..errors import InputError
from .cache import KVCache
from .queues import Request, SortedQueue, Step, WaitingQueue
from .states import StateSplit
from .types import EngineSettings


class Engine:
    """The engine core: the queues, the KV cache, and the steps in flight.

    ``running`` is in the order of admission, ``in_flight`` (steps whose output is not back) oldest
    first; ``calls`` counts ``schedule()``.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.cache = KVCache(settings)
        self.by_priority = settings.scheduling_policy == "priority"
        self.waiting: WaitingQueue = (SortedQueue if self.by_priority else WaitingQueue)(settings)
        self.running: list[Request] = []
        self.in_flight: deque[Step] = deque()
        self.split = StateSplit.of(settings)
        self.calls = 0
        # Steps that computed something, the last of them that computed a prompt, and whether
        # prompts were left over then (``prefill_schedule_interval``).
        self._executed = 0
        self._last_prefill = -settings.prefill_schedule_interval
        self._prefills_left = False
        self.watch = Watch()

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do until a request arrives."""
        return not (self.waiting or self.running or self.in_flight)

    def turn(self) -> tuple[Step | None, Step | None]:
        """One turn of the engine's loop.

        Returns:
            The step that was scheduled, and the step whose output came back; None for none.
        """
        step = None
        if self.waiting or self.running:
            step = self.schedule()
            self.in_flight.append(step)
            if len(self.in_flight) < self.settings.max_concurrent_batches and (
                step.tokens or self.waiting or self.running
            ):
                return step, None
        done = self.in_flight.popleft()
        self.process(done)
        self.watch.check(self, step)
        return step, done

    def schedule(self) -> Step:
        """Decide on the next step."""
        self.calls += 1
        self.cache.new_step()
        step = Step(self.settings.token_budget, self.threshold(), self.is_only_decodes())
        prefills = self.run_on(step)
        if step.preempted:
            step.limit = "blocks"
        else:
            prefills |= self.admit_waiting(step)
            if not step.only_decodes:
                self._prefills_left = len(self.waiting) > 0
        self._executed += bool(step.scheduled)
        if prefills:
            self._last_prefill = self._executed
        self.settle(step)
        return step

    def settle(self, step: Step) -> None:
        """The step is decided: its tokens count as computed from now on."""
        step.running, step.waiting = len(self.running), len(self.waiting)
        step.used_blocks = self.cache.used
        step.tokens = sum(step.scheduled.values())
        for request, tokens in step.scheduled.items():
            request.computed += tokens
            request.in_flight += tokens
            request.in_prefill = request.computed < request.known + request.placeholders
            if not request.in_prefill:
                step.sampling.add(request)
                if self.settings.async_scheduling:
                    request.placeholders += 1
                    request.eligible = self.calls + self.settings.pipeline_parallel_size

    def threshold(self) -> int:
        """Most tokens of one prompt in this step; 0 for no limit, as for a request on its own."""
        settings, everybody = self.settings, len(self.running) + len(self.waiting)
        threshold = settings.long_prefill_token_threshold if everybody > 1 else 0
        if threshold and settings.long_prefill_token_threshold_adaptive:
            return max(threshold, settings.max_num_batched_tokens // everybody)
        return threshold

    def is_only_decodes(self) -> bool:
        """Whether the last step that computed a prompt is too short ago for another."""
        interval = self.settings.prefill_schedule_interval
        return (
            interval > 1
            and not self._prefills_left
            and self._executed + 1 - self._last_prefill < interval
            and any(not request.in_prefill for request in self.running)
        )

    def run_on(self, step: Step) -> bool:
        """Schedule running requests; whether one of them was still in its prompt."""
        at, prefills = 0, False
        while at < len(self.running) and step.budget > 0:
            request = self.running[at]
            tokens = self.tokens_to_run(request, step)
            if tokens <= 0:
                at += 1
                continue
            ahead = self.running[:at] if self.by_priority else ()
            if self.make_room(request, tokens, step):
                prefills |= request.in_prefill
                step.scheduled[request] = tokens
                step.budget -= tokens
                at += 1
            elif not self.by_priority:
                break
            at -= sum(not each.running for each in ahead)
        return prefills

    def tokens_to_run(self, request: Request, step: Step) -> int:
        """Tokens of a running request in this step, 0 where it has to sit out."""
        coming = request.placeholders
        if coming and request.computed + 2 - coming >= request.end:
            return 0  # its last output is on its way
        if self.calls < request.eligible or (step.only_decodes and request.in_prefill):
            return 0
        tokens = request.known + coming - request.computed
        if 0 < step.threshold < tokens:
            tokens = step.threshold
        tokens = min(tokens, step.budget, self.settings.max_model_len - request.computed - 1)
        if self.split is not None:
            tokens = self.split.tokens(request, request.computed, tokens)
        return tokens

    def make_room(self, request: Request, tokens: int, step: Step) -> bool:
        """Get the request its blocks; False if it is preempted itself."""
        while not self.extend(request, tokens):
            victim = self.running.pop(self.waiting.victim(self.running))
            self.preempt(victim)
            step.budget += step.scheduled.pop(victim, 0)
            step.preempted.append(victim)
            if victim is request:
                return False
        return True

    def extend(self, request: Request, tokens: int) -> bool:
        """Give a running request slots for so many tokens, if they fit."""
        return self.cache.extend(request, tokens)

    def preempt(self, request: Request) -> None:
        """Preempt a request: it waits first in line and computes everything again."""
        self.cache.release(request, for_good=False)
        request.running = False
        request.lost = request.computed
        request.computed = request.placeholders = 0
        request.stale = request.in_flight
        request.preemptions += 1
        self.waiting.put_back([request])

    def admit_waiting(self, step: Step) -> bool:
        """Admit waiting requests, first one first; whether one has a prompt to compute."""
        skipped: list[Request] = []
        prefills = False
        while self.waiting and not step.limit:
            if step.budget <= 0:
                step.limit = "tokens"
            elif len(self.running) >= self.settings.max_num_seqs:
                step.limit = "slots"
            elif self.waiting.first().stale:
                skipped.append(self.waiting.pop())
            else:
                prefills |= self.admit_first(step)
        self.waiting.put_back(reversed(skipped))
        return prefills

    def admit_first(self, step: Step) -> bool:
        """Admit the first waiting request or say why not; whether it has a prompt to compute."""
        request = self.waiting.first()
        hits, found, request.junction = self.cache.find(request)
        if step.only_decodes and found < request.known - 1:
            step.limit = "interval"
            return False
        tokens = request.known - found
        if 0 < step.threshold < tokens:
            tokens = step.threshold
        if tokens > step.budget and not self.settings.enable_chunked_prefill:
            step.limit = "tokens"
            return False
        tokens = min(tokens, step.budget)
        if self.split is not None:
            tokens = self.split.tokens(request, found, tokens)
        if tokens == 0:
            step.limit = "tokens"
        elif not self.cache.admit(request, tokens, hits, found, others=bool(self.running)):
            step.limit = "blocks"
        if step.limit:
            return False
        self.waiting.pop()
        self.running.append(request)
        request.running = True
        request.computed = found
        step.admitted.append((request, found))
        step.scheduled[request] = tokens
        step.budget -= tokens
        return found < request.known - 1

    def process(self, step: Step) -> None:
        """The output of a step is back: some requests know a token more, and some end with it."""
        for request, tokens in step.scheduled.items():
            request.in_flight -= tokens
            is_stale = request.stale > 0
            if is_stale:
                request.stale -= tokens
            if request not in step.sampling:
                continue
            request.known += 1
            if not is_stale and request.placeholders > 0:
                request.placeholders -= 1
                if request.running:
                    self.cache.name(request, request.computed - request.in_flight)
            if request.known >= request.end:
                self.finish(request)
                step.finished.append(request)

    def finish(self, request: Request) -> None:
        """A request has all its outputs."""
        self.watch.last_end = self.calls
        self.cache.release(request, for_good=True)
        if request.running:
            self.running.remove(request)
        else:
            self.waiting.remove(request)
        request.running = False


STUCK_AFTER = 100
"""Turns in a row that give nothing to do, before it is certain that none ever will."""


class Watch:
    """Looks at every turn of an engine, for workloads that would never end, in vLLM as here."""

    def __init__(self) -> None:
        self.last_end = 0  # ``Engine.calls`` when a request last ended, or there was none
        self._stuck = 0  # turns in a row that gave nothing to do

    def check(self, engine: Engine, step: Step | None) -> None:
        """Refuse to go on for ever."""
        self._check_ends(engine)
        is_stuck = step is not None and not step.tokens
        has_work = bool(engine.waiting or engine.running)
        if not is_stuck or not has_work or any(each.tokens for each in engine.in_flight):
            self._stuck = 0
            return
        self._stuck += 1
        if self._stuck > STUCK_AFTER:
            request = engine.waiting.first() if engine.waiting else engine.running[0]
            raise InputError(
                f"request {request.number}: its {request.known:,} tokens cannot be scheduled "
                f"within {engine.cache.total:,} blocks and {engine.settings.token_budget:,} tokens "
                "a step: vLLM would wait for ever"
            )

    def _check_ends(self, engine: Engine) -> None:
        """Refuse requests that begin again and again, each preempting the other or itself.

        The first running request gets its tokens in every step it may run in, so that it ends
        within ``max_model_len`` of them; asynchronous turns may be empty in between.
        """
        if not (engine.running or engine.waiting):
            self.last_end = engine.calls
            return
        settings = engine.settings
        every = settings.prefill_schedule_interval * settings.pipeline_parallel_size
        if engine.calls - self.last_end > STUCK_AFTER + 4 * settings.max_model_len * every:
            request = engine.running[0] if engine.running else engine.waiting.first()
            raise InputError(
                f"request {request.number}: does not end within {engine.cache.total:,} blocks: "
                "it is preempted and begins again, and vLLM would go on for ever"
            )
