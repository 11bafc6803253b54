"""Requests on their way into the engine: numbered, checked, in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil

from ...errors import InputError
from .engine import Engine
from .settings import EngineSettings
from .state import Request
from .types import TraceRequest


class Feed:
    """Hands the requests of a trace to an engine, one step after the other.

    Time counts steps in which something was computed. Where the engine has nothing to do, it jumps
    to the next arrival.

    Attributes:
        clock: The time, in steps.
        requests: Requests read so far.
        refused: Of them, prompts that are too long, which vLLM refuses.
        cut: Of them, those whose outputs end at ``max_model_len``.
        ended: Of them, those that are over, the refused ones included.
    """

    def __init__(
        self,
        trace: Iterable[TraceRequest],
        settings: EngineSettings,
        *,
        concurrency: int | None = None,
        step_time: float | None = None,
    ) -> None:
        self.settings = settings
        self.clock = self.requests = self.refused = self.cut = self.ended = 0
        self._closed = concurrency is not None
        self._due = concurrency or 0
        self._step_time = step_time or 1.0
        self._rest = self._accepted(iter(trace))
        self._next = next(self._rest, None)

    @property
    def is_over(self) -> bool:
        """Whether the trace has no more requests."""
        return self._next is None

    def give(self, engine: Engine) -> int:
        """Add all requests that are there by now; how many."""
        if engine.is_idle and not self._closed and self._next is not None:
            self.clock = max(self.clock, ceil(self._next.arrival))
        given = 0
        while self._next is not None:
            if self._closed:
                if self._due == 0:
                    break
                self._due -= 1
            elif self._next.arrival > self.clock:
                break
            engine.waiting.add(self._next)
            given += 1
            self._next = next(self._rest, None)
        return given

    def finished(self, count: int) -> None:
        """So many requests have ended; in a closed loop others take their place."""
        self.ended += count
        self._due += count

    def next_arrival(self) -> float | None:
        """When the next request arrives, in steps; None if that does not depend on time."""
        return None if self._closed or self._next is None else self._next.arrival

    def _accepted(self, trace: Iterator[TraceRequest]) -> Iterator[Request]:
        """The requests that vLLM does not refuse."""
        settings = self.settings
        before = 0.0
        for number, each in enumerate(trace):
            self.requests += 1
            self._check(number, each, before)
            before = each.arrival
            if each.prompt_tokens >= settings.max_model_len:
                self.refused += 1
                self.ended += 1
                continue
            end = each.prompt_tokens + each.output_tokens
            self.cut += end > settings.max_model_len
            yield Request(
                number,
                each,
                arrival=0.0 if self._closed else each.arrival / self._step_time,
                end=min(end, settings.max_model_len),
                groups=len(settings.groups),
                hash_block_size=settings.hash_block_size,
            )

    def _check(self, number: int, each: TraceRequest, before: float) -> None:
        """Refuse requests that cannot be.

        Raises:
            InputError: Which, and why.
        """
        if each.prompt_tokens < 1 or each.output_tokens < 1:
            raise InputError(
                f"request {number}: {each.prompt_tokens} prompt and {each.output_tokens} output "
                "tokens: at least 1 of each"
            )
        if not self._closed and not before <= each.arrival < float("inf"):
            raise InputError(
                f"request {number}: arrival {each.arrival}: a time not before the last one's, "
                f"{before}"
            )
        if each.prefix and sum(part.tokens for part in each.prefix) > each.prompt_tokens:
            raise InputError(
                f"request {number}: its prefix is longer than its prompt of "
                f"{each.prompt_tokens:,} tokens"
            )
