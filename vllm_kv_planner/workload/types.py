"""What a workload is made of, and what one engine step did with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from ..records import dataclass


class Segment(NamedTuple):
    """Tokens that other requests may have too, at the same place.

    Two requests share the blocks of their longest common run of segments from the first token on.
    """

    id: int | str
    tokens: int


class TraceRequest(NamedTuple):
    """One request as it arrives.

    Attributes:
        arrival: When, in engine steps (in seconds where a step time is given); 0 in a closed loop.
        prompt_tokens: Of the whole prompt, shared prefix included; at least 1.
        output_tokens: Tokens it generates before it ends; at least 1.
        prefix: Segments that the prompt begins with; what follows them is its own.
    """

    arrival: float
    prompt_tokens: int
    output_tokens: int
    prefix: tuple[Segment, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One scheduler step; requests are numbered in the order of the trace, from 0.

    Attributes:
        step: Number of the step, from 0; steps in which nothing is scheduled do not count.
        scheduled: Tokens of every request that runs in this step, by its number.
        admitted: Requests that came out of the waiting queue in this step, in that order;
            resumed ones (after a preemption) included.
        preempted: Requests thrown out in this step, in that order.
        finished: Requests that ended with this step's output.
        cached_tokens: Prefix-cache hit of every request of ``admitted``, in tokens.
        running: Requests in the running queue after scheduling.
        waiting: Requests left in the waiting queue after scheduling.
        used_blocks: Blocks held by requests after scheduling (the null block not counted).
    """

    step: int
    scheduled: dict[int, int]
    admitted: tuple[int, ...]
    preempted: tuple[int, ...]
    finished: tuple[int, ...]
    cached_tokens: tuple[int, ...]
    running: int
    waiting: int
    used_blocks: int


class SchedulerRun(Protocol):
    """Anything that runs a trace: our own event loop, or vLLM's scheduler."""

    def steps(self) -> Iterator[StepRecord]:
        """Every step until all requests have ended."""
        ...
