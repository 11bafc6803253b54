"""Requests on their way into the engine: numbered, checked, in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil

from ..errors import InputError
from .engine import Engine
from .queues import Arrived
from .types import EngineSettings, TraceRequest

LATEST = 1e12
"""Arrivals lie before it, in seconds or in steps."""


class Counts:
    """Requests of a trace, counted as they are read.

    Attributes:
        requests: All that were read.
        refused: Of them, prompts that are too long, which vLLM refuses.
        cut: Of them, those whose outputs end at ``max_model_len``.
        ended: Of them, those that are over.
    """

    def __init__(self) -> None:
        self.requests = self.refused = self.cut = self.ended = 0


class Feed(Counts):
    """Hands the requests of a trace to an engine, one step after the other.

    ``clock`` counts steps in which something was computed. Where the engine has nothing to do, it
    jumps to the next arrival. Refused requests count as ended.
    """

    def __init__(
        self,
        trace: Iterable[TraceRequest],
        settings: EngineSettings,
        *,
        concurrency: int | None = None,
        step_time: float | None = None,
    ) -> None:
        super().__init__()
        self.clock = 0
        self._max_model_len = settings.max_model_len
        self._closed = concurrency is not None
        self._due = concurrency or 0
        self._step_time = step_time or 1.0
        self._rest = self._accepted(iter(trace))
        self._next = next(self._rest, None)

    @property
    def is_over(self) -> bool:
        """Whether the trace has no more requests."""
        return self._next is None

    def give(self, engine: Engine) -> None:
        """Add all requests that are there by now."""
        following = self._next
        if following is None:
            return
        if not self._closed and engine.is_idle:
            self.clock = max(self.clock, ceil(following.arrival))
        while following is not None:
            if self._closed:
                if self._due == 0:
                    break
                self._due -= 1
            elif following.arrival > self.clock:
                break
            engine.waiting.add(following._replace(joined=self.clock))
            following = self._next = next(self._rest, None)

    def finished(self, count: int) -> None:
        """So many requests have ended; in a closed loop others take their place."""
        self.ended += count
        self._due += count

    def steps_to_next(self) -> int | None:
        """Steps until another request joins; None if none does before one ends."""
        following = self._next
        if following is None or (self._closed and not self._due):
            return None
        return 0 if self._closed else ceil(following.arrival) - self.clock

    def _accepted(self, trace: Iterator[TraceRequest]) -> Iterator[Arrived]:
        """The requests that vLLM does not refuse."""
        before = 0.0
        for number, each in enumerate(trace):
            self.requests += 1
            check_request(number, each, None if self._closed else before)
            before = each.arrival
            if each.prompt_tokens >= self._max_model_len:
                self.refused += 1
                self.ended += 1
                continue
            self.cut += each.prompt_tokens + each.output_tokens > self._max_model_len
            arrival = 0.0 if self._closed else each.arrival / self._step_time
            yield Arrived(number, arrival, 0, each.prompt_tokens, each.output_tokens, each.prefix)


def check_request(number: int, each: TraceRequest, before: float | None) -> None:
    """Refuse requests that cannot be; ``before``: the last arrival, None in a closed loop."""
    for tokens in (each.prompt_tokens, each.output_tokens):
        if not isinstance(tokens, int) or tokens < 1:
            raise InputError(
                f"request {number}: {each.prompt_tokens!s:.40} prompt and "
                f"{each.output_tokens!s:.40} output tokens: whole numbers, at least 1"
            )
    if before is not None and not before <= each.arrival < LATEST:
        raise InputError(
            f"request {number}: arrival {each.arrival}: a time not before the last one's, {before}"
        )
    if any(part.tokens < 0 for part in each.prefix):
        raise InputError(f"request {number}: a part of its prefix has fewer than 0 tokens")
    if sum(part.tokens for part in each.prefix) > each.prompt_tokens:
        raise InputError(
            f"request {number}: its prefix is longer than its prompt of "
            f"{each.prompt_tokens:,} tokens"
        )
