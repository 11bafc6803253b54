"""vLLM's scheduling rules, step by step: who runs, who waits, who is thrown out.

Source: vLLM 0.33 ``v1/core/sched/scheduler.py`` ``Scheduler.schedule``, ``update_from_output``,
``_preempt_request``; ``v1/core/sched/async_scheduler.py``; ``v1/engine/core.py`` ``step`` and
``step_with_batch_queue``.
"""

from __future__ import annotations

from collections import deque

from ...records import dataclass, field
from .cache import KVCache
from .queues import SortedQueue, WaitingQueue
from .settings import EngineSettings
from .split import StateSplit
from .state import Request


@dataclass(eq=False)
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
        limit: What kept the first waiting request out: ``blocks``, ``seats``, ``tokens``,
            ``interval``; or empty.
        budget: Tokens that may still be given out.
        threshold: Most tokens of one prompt; 0: no limit.
        only_decodes: Whether prompts sit this step out.
    """

    budget: int
    threshold: int
    only_decodes: bool
    scheduled: dict[Request, int] = field(default_factory=dict)
    sampling: set[Request] = field(default_factory=set)
    admitted: list[tuple[Request, int]] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)
    finished: list[Request] = field(default_factory=list)
    running: int = 0
    waiting: int = 0
    used_blocks: int = 0
    limit: str = ""


class Engine:
    """The engine core: the queues, the KV cache, and the steps in flight.

    Attributes:
        cache: The KV cache.
        waiting: Requests that wait.
        running: Requests that run, in the order they were admitted.
        in_flight: Steps whose output is not back, oldest first.
        calls: How often ``schedule()`` was called.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.cache = KVCache(settings)
        by_priority = settings.scheduling_policy == "priority"
        self.waiting: WaitingQueue = SortedQueue() if by_priority else WaitingQueue()
        self.running: list[Request] = []
        self.in_flight: deque[Step] = deque()
        self.split = StateSplit.of(settings)
        self.calls = 0
        # Steps that computed something, the last of them that computed a prompt, and whether
        # prompts were left over then (``prefill_schedule_interval``).
        self._executed = 0
        self._last_prefill = -settings.prefill_schedule_interval
        self._prefills_left = False

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
        step.running, step.waiting = len(self.running), len(self.waiting)
        step.used_blocks = self.cache.used
        for request, tokens in step.scheduled.items():
            request.computed += tokens
            request.in_flight += tokens
            request.in_prefill = request.computed < request.known + request.placeholders
            if not request.in_prefill:
                step.sampling.add(request)
                if self.settings.async_scheduling:
                    request.placeholders += 1
                    request.eligible = self.calls + self.settings.pipeline_parallel_size
        return step

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
        """Schedule running requests; whether one of them is still in its prompt."""
        at, prefills = 0, False
        while at < len(self.running) and step.budget > 0:
            request = self.running[at]
            tokens = self.tokens_to_run(request, step)
            if tokens <= 0:
                at += 1
                continue
            before = len(self.running)
            if not self.make_room(request, tokens, step):
                if self.settings.scheduling_policy != "priority":
                    break
                # It was the last to arrive, and is gone; those behind it may fit now.
                at -= sum(each in self.running[:at] for each in ())
                continue
            at += 1
        return prefills
