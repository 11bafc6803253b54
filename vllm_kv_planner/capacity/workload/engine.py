"""vLLM's scheduling rules, step by step: who runs, who waits, who is thrown out.

Source: vLLM 0.33 ``v1/core/sched/scheduler.py`` ``Scheduler.schedule``, ``update_from_output``,
``_preempt_request``; ``v1/core/sched/async_scheduler.py``; ``v1/engine/core.py`` ``step`` and
``step_with_batch_queue``. First come, first served.
"""

from __future__ import annotations

from collections import deque

from ...records import dataclass
from .cache import KVCache
from .settings import EngineSettings
from .split import StateSplit
from .state import Request


@dataclass
class Step:
    """What one ``schedule()`` decided.

    Attributes:
        scheduled: Tokens of each request that runs.
        sampling: Those of them that get an output: all but unfinished prefills.
        admitted: Requests that came out of the waiting queue, with the tokens found for them.
        preempted: Requests thrown out.
        finished: Requests that ended with this step's output, once that is back.
        running: Requests in the running queue.
        waiting: Requests left waiting.
        used_blocks: Blocks held.
        limit: What kept the first waiting request out: ``blocks``, ``seats``, ``tokens``; or empty.
    """

    scheduled: list[tuple[Request, int]]
    sampling: set[Request]
    admitted: list[tuple[Request, int]]
    preempted: list[Request]
    finished: list[Request]
    running: int
    waiting: int
    used_blocks: int
    limit: str


class Engine:
    """The engine core: the queues, the KV cache, and the steps in flight.

    Attributes:
        cache: The KV cache.
        waiting: Requests that wait, first one first.
        running: Requests that run, in the order they were admitted.
        in_flight: Steps whose output is not back, oldest first.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.cache = KVCache(settings)
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.in_flight: deque[Step] = deque()
        self.split = StateSplit.of(settings)
        self.calls = 0

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do until a request arrives."""
        return not (self.waiting or self.running or self.in_flight)

    def add(self, request: Request) -> None:
        """A request arrives."""
        self.waiting.append(request)

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
                step.scheduled or self.waiting or self.running
            ):
                return step, None
        done = self.in_flight.popleft()
        self.process(done)
        return step, done

    def schedule(self) -> Step:
        """Decide on the next step."""
        self.calls += 1
        self.cache.new_step()
        step = Step([], set(), [], [], [], 0, 0, 0, "")
        budget = self.run_on(step, self.settings.max_num_batched_tokens)
        if step.preempted:
            step.limit = "blocks"
        else:
            self.admit_waiting(step, budget)
        step.running, step.waiting = len(self.running), len(self.waiting)
        step.used_blocks = self.cache.used
        for request, tokens in step.scheduled:
            request.computed += tokens
            request.in_flight += tokens
            if request.computed >= request.known + request.placeholders:
                step.sampling.add(request)
                if self.settings.async_scheduling:
                    request.placeholders += 1
                    request.eligible = self.calls + self.settings.pipeline_parallel_size
        return step

    @property
    def threshold(self) -> int:
        """Most tokens of one prompt in this step; 0 for no limit, as for a request on its own."""
        alone = len(self.running) + len(self.waiting) <= 1
        return 0 if alone else self.settings.long_prefill_token_threshold

    def run_on(self, step: Step, budget: int) -> int:
        """Schedule running requests, throwing out the last ones where blocks run out."""
        threshold = self.threshold
        at = 0
        while at < len(self.running) and budget > 0:
            request = self.running[at]
            tokens = self.tokens_to_run(request, budget, threshold)
            if tokens <= 0:
                at += 1
                continue
            if not self.make_room(request, tokens, step):
                break
            step.scheduled.append((request, tokens))
            budget -= tokens
            at += 1
        return budget

    def tokens_to_run(self, request: Request, budget: int, threshold: int) -> int:
        """Tokens of a running request in this step, 0 where it has to sit out."""
        coming = request.placeholders
        if coming and request.computed + 2 - coming >= request.end:
            return 0  # its last output is on its way
        if self.calls < request.eligible:
            return 0
        tokens = request.known + coming - request.computed
        if 0 < threshold < tokens:
            tokens = threshold
        tokens = min(tokens, budget, self.settings.max_model_len - request.computed - 1)
        if self.split is not None:
            tokens = self.split.tokens(request, request.computed, tokens)
        return tokens

    def make_room(self, request: Request, tokens: int, step: Step) -> bool:
        """Get the request its blocks; False if it is thrown out itself."""
        while not self.cache.extend(request, tokens):
            victim = self.running.pop()
            self.preempt(victim)
            step.preempted.append(victim)
            if victim is request:
                return False
        return True

    def preempt(self, request: Request) -> None:
        """Throw a request out: it waits first in line and computes everything again."""
        self.cache.release(request)
        request.running = False
        request.computed = request.placeholders = 0
        request.stale = request.in_flight
        request.preemptions += 1
        self.waiting.appendleft(request)

    def admit_waiting(self, step: Step, budget: int) -> None:
        """Admit waiting requests, first one first, until one does not fit."""
        settings, threshold = self.settings, self.threshold
        skipped: list[Request] = []
        while self.waiting:
            if budget <= 0:
                step.limit = "tokens"
                break
            if len(self.running) >= settings.max_num_seqs:
                step.limit = "seats"
                break
            request = self.waiting[0]
            if request.stale:
                skipped.append(self.waiting.popleft())
                continue
            hits, found, request.junction = self.cache.find(request)
            tokens = request.known - found
            if 0 < threshold < tokens:
                tokens = threshold
            if not settings.enable_chunked_prefill and tokens > budget:
                step.limit = "tokens"
                break
            tokens = min(tokens, budget)
            if self.split is not None:
                tokens = self.split.tokens(request, found, tokens)
                if tokens == 0:
                    step.limit = "tokens"
                    break
            if not self.cache.admit(request, tokens, hits, found, bool(self.running)):
                step.limit = "blocks"
                break
            self.waiting.popleft()
            self.running.append(request)
            request.running = True
            request.computed = found
            step.admitted.append((request, found))
            step.scheduled.append((request, tokens))
            budget -= tokens
        self.waiting.extendleft(reversed(skipped))

    def process(self, step: Step) -> None:
        """The output of a step is back: some requests know a token more, and some end with it."""
        for request, tokens in step.scheduled:
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
        self.cache.release(request)
        (self.running if request.running else self.waiting).remove(request)
