"""The same engine for long traces: requests that only decode are looked at when they need a block.

A request that decodes gets one token in every step, whatever else happens, until its next block is
full, one falls out of its window, or it ends. In between its counts advance by themselves: it is
*quiet*, from ``Request.since`` on, and ``Request.wake`` says which ``schedule()`` has to look at it
again. The requests looked at in every step (prompts being computed, last tokens) are *awake*. Steps
in which nobody is awake differ in nothing, so that any number of them is one.

Blocks of outputs get their names when the request wakes up: nobody else could find them before.
A block that others can find is named on time: who still has one to name stays awake.

``tests/test_workload_properties.py`` compares it with ``Engine``, step by step.
"""

from __future__ import annotations

import heapq
from operator import attrgetter

from .engine import Engine
from .queues import Request, Step
from .types import EngineSettings

by_admission = attrgetter("admission")


def can_be_fast(settings: EngineSettings) -> bool:
    """Whether a decoding request surely runs in every step."""
    return (
        settings.scheduling_policy == "fcfs"
        and settings.prefill_schedule_interval == 1
        and settings.pipeline_parallel_size == 1
        and settings.max_concurrent_batches == 1 + settings.async_scheduling
    )


class FastEngine(Engine):
    """``Engine`` that leaves quiet requests alone; ``awake`` is in the order of admission."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self.lag = settings.max_concurrent_batches - 1
        self.awake: list[Request] = []
        self.quiet = 0
        self._calendar: dict[int, list[Request]] = {}
        self._ticks: list[int] = []
        self._admissions = 0
        self._last_quiet = -1
        self._has_states = bool(self.cache.with_states)
        self._stays_blocked = settings.enable_chunked_prefill and not self._has_states
        self._drops_blocks = any(not each.keeps_all for each in self.cache.groups)
        self._quiet_steps = [each.quiet_steps for each in self.cache.groups]

    def schedule(self) -> Step:
        """Decide on the next step, and put to rest whoever only decodes from then on."""
        due = self._due(self.calls + 1)
        if not self._is_roomy():
            self._wake_all()
            return super().schedule()
        self.calls += 1
        self.cache.new_step()
        step = Step(self.settings.token_budget - self.quiet, self.threshold(), False)
        self._run_awake(step, due)
        if step.preempted:
            step.limit = "blocks"
        else:
            self.admit_waiting(step)
        self.settle(step)
        return step

    def settle(self, step: Step) -> None:
        """As ever; quiet requests have a token each."""
        super().settle(step)
        step.tokens += self.quiet

    def turn(self) -> tuple[Step | None, Step | None]:
        """One turn; afterwards, requests that only decode from now on are put to rest."""
        turned = super().turn()
        if len(self.in_flight) == self.lag:
            self._rest()
        return turned

    def skip(self, step: Step, most: int | None) -> int:
        """Leave out steps like the last one, with which nothing ended; how many were left out.

        ``most``: steps until the next request arrives; None: none will.
        """
        if (
            (self.waiting and (step.preempted or step.limit not in ("slots", "blocks")))
            or self.awake
            or not 0 < self.quiet <= self.settings.token_budget
            or len(self.in_flight) != self.lag
        ):
            return 0
        steps = self._ticks[0] - self.calls - 1
        steps = max(steps if most is None else min(steps, most), 0)
        self.calls += steps
        return steps

    def admit_first(self, step: Step) -> bool:
        """As ever; a request that had no room has none until blocks were given back."""
        request, pool = self.waiting.first(), self.cache.pool
        if request.blocked_at == pool.changes and self._stays_blocked:
            step.limit = "blocks"
            return False
        before = len(self.running)
        prefills = super().admit_first(step)
        if len(self.running) > before:
            self._admissions += 1
            request.admission = self._admissions
            self.awake.append(request)
        elif step.limit == "blocks" and self.cache.has_no_room:
            request.blocked_at = pool.changes
        return prefills

    def extend(self, request: Request, tokens: int) -> bool:
        """As ever; quiet requests get their blocks without names."""
        if request.since >= 0:
            return self.cache.extend_quietly(request)
        return self.cache.extend(request, tokens)

    def preempt(self, request: Request) -> None:
        """Preempt a request, wherever it is."""
        if request.since >= 0:
            self._wake(request, self.calls)
        self.awake.remove(request)
        super().preempt(request)

    def finish(self, request: Request) -> None:
        """A request has all its outputs."""
        if request.running:
            self.awake.remove(request)
        super().finish(request)

    def _due(self, tick: int) -> list[Request]:
        """Quiet requests that need a block in this ``schedule()``; who ends wakes up."""
        due: list[Request] = []
        if not self._ticks or self._ticks[0] > tick:
            return due
        heapq.heappop(self._ticks)
        for request in self._calendar.pop(tick):
            if request.wake != tick or request.since < 0:
                continue
            if request.last == tick:
                self._wake(request, tick)
            else:
                due.append(request)
        return due

    def _is_roomy(self) -> bool:
        """Whether no prompt can take the token of a request that decodes.

        Prompts admitted after everybody who is quiet only get what those leave.
        """
        budget = self.settings.token_budget - self.quiet
        if budget < len(self.awake):
            return False
        threshold = self.threshold()
        wanted = 0
        is_last = True
        for request in self.awake:
            tokens = request.known + request.placeholders - request.computed
            if threshold:
                tokens = min(tokens, threshold)
            wanted += tokens
            is_last = is_last and (tokens <= 1 or request.admission > self._last_quiet)
        return is_last or wanted <= budget

    def _run_awake(self, step: Step, due: list[Request]) -> None:
        """Schedule who is awake, and get blocks for who needs one, in the order of admission."""
        tick = self.calls
        for request in sorted([*self.awake, *due], key=by_admission) if due else self.awake[:]:
            if not request.running:
                break  # preempted, and so is everybody behind
            if request.since >= 0:
                self._advance(request, tick)
                if self.make_room(request, 1, step):
                    self._sleep(request, tick + 1, ahead=1)
                continue
            tokens = self.tokens_to_run(request, step)
            if tokens > 0 and self.make_room(request, tokens, step):
                step.scheduled[request] = tokens
                step.budget -= tokens

    def _advance(self, request: Request, tick: int) -> None:
        """Bring a quiet request's counts up to date."""
        steps = tick - request.since
        request.computed += steps
        request.known += steps
        request.since = tick

    def _wake(self, request: Request, tick: int) -> None:
        """A quiet request is looked at in every step from this ``schedule()`` on."""
        self._advance(request, tick)
        self.cache.name(request, request.computed - request.in_flight)
        request.since = -1
        self.quiet -= 1
        for step in self.in_flight:
            step.scheduled[request] = 1
            step.sampling.add(request)
        awake = self.awake
        awake.append(request)
        if len(awake) > 1 and awake[-2].admission > request.admission:
            awake.sort(key=by_admission)

    def _wake_all(self) -> None:
        """Look at everybody: somebody may get nothing in this step."""
        for request in self.running:
            if request.since >= 0:
                self._wake(request, self.calls + 1)

    def _rest(self) -> None:
        """Put to rest everybody who only decodes from now on."""
        if not self.awake:
            return
        tick, lag, stay = self.calls + 1, self.lag, []
        for request in self.awake:
            left = request.end - 2 - request.computed
            if (
                left < 1
                or request.in_flight != lag
                or request.placeholders != lag
                or request.known + lag != request.computed + 1
                or self.cache.has_shared_to_name(request)
            ):
                stay.append(request)
                continue
            for step in self.in_flight:
                del step.scheduled[request]
                step.sampling.discard(request)
            self.quiet += 1
            self._last_quiet = max(self._last_quiet, request.admission)
            request.since = tick
            request.last = tick + left
            if self._drops_blocks:
                self._call(request, tick)  # what the last of its prompt needed may go
            else:
                self._sleep(request, tick)
        self.awake = stay

    def _sleep(self, request: Request, tick: int, ahead: int = 0) -> None:
        """Note which ``schedule()``, from ``tick`` on, has to look at a quiet request."""
        computed = request.computed + ahead
        quiet = (quiet_steps(computed, self.lag) for quiet_steps in self._quiet_steps)
        self._call(request, min(request.last, tick + min(quiet)))

    def _call(self, request: Request, wake: int) -> None:
        """Let this ``schedule()`` look at a quiet request."""
        request.wake = wake
        if wake not in self._calendar:
            heapq.heappush(self._ticks, wake)
        self._calendar.setdefault(wake, []).append(request)
