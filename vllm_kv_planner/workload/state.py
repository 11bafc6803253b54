"""One request on its way through the engine."""

from __future__ import annotations

from typing import NamedTuple

from .blocks import Table
from .keys import BlockKeys
from .types import Segment


class Arrived(NamedTuple):
    """A request that waits and has not been looked at yet.

    Attributes:
        number: Its place in the trace, from 0.
        arrival: When it arrives, in steps; 0 in a closed loop.
        joined: The first step that could have it.
        prompt: Tokens of its prompt.
        output: Tokens it generates.
        prefix: What its prompt begins with.
    """

    number: int
    arrival: float
    joined: int
    prompt: int
    output: int
    prefix: tuple[Segment, ...]


class StateOf:
    """A request's recurrent states in one group (``states.py``), where prefix caching keeps them.

    Attributes:
        last: Position of the state that the running one was made from.
        retired: Positions below it have been given back.
        has_blocks: Whether it has been given blocks since it was admitted.
        checkpoint: Tokens, and position, of a state exported in the middle of a step.
    """

    __slots__ = ("checkpoint", "has_blocks", "last", "retired")

    def __init__(self) -> None:
        self.last: int | None = None
        self.retired = 0
        self.has_blocks = False
        self.checkpoint: tuple[int, int] | None = None


class Request:
    """One request on its way; names as in vLLM 0.33 ``v1/request.py`` where there is one.

    Attributes:
        number: Its place in the trace, from 0.
        arrival: When it arrives, in steps; 0 in a closed loop.
        joined: The first step that could have it.
        prompt: Tokens of its prompt.
        end: Tokens of prompt and outputs together, cut at ``max_model_len``.
        known: Tokens that the scheduler knows: the prompt and the outputs that came back.
        computed: Tokens whose cache is there, or will be after the steps in flight.
        in_flight: Tokens of steps whose output is not back yet.
        placeholders: Outputs that are on their way (asynchronous scheduling).
        stale: Tokens in flight from before a preemption.
        eligible: First ``schedule()`` that may run it again (pipeline stages).
        in_prefill: Whether its last step left some of its prompt to compute.
        running: Whether it is in the running queue.
        lost: Tokens that were computed when it was thrown out last.
        preemptions: How often it was thrown out.
        junction: Where other requests' shared prefix ends, if some group has not kept it; else 0.
        keys: Names of its blocks.
        tables: Its blocks, a group at a time.
        named: How many of a table's first blocks have their name already.
        states: Of groups of recurrent states.
        seat: Grows in the order of admission.
        since: From which ``schedule()`` on its counts advance by themselves (``fast.py``); -1: they
            do not.
        wake: The ``schedule()`` that has to look at it next.
        last: The ``schedule()`` that computes its last token.
        blocked_at: The pool's ``changes`` when there was no room for it.
    """

    __slots__ = (
        *("arrival", "computed", "eligible", "end", "in_flight", "in_prefill"),
        *("joined", "junction", "keys", "known", "lost"),
        *("named", "number", "placeholders", "preemptions", "prompt", "running", "seat", "stale"),
        *("blocked_at", "last", "since", "states", "tables", "wake"),
    )

    def __init__(self, arrived: Arrived, end: int, groups: int, hash_block_size: int) -> None:
        self.number, self.arrival, self.joined, self.prompt, _, prefix = arrived
        self.known = self.prompt
        self.end = end
        self.computed = self.in_flight = self.placeholders = self.stale = self.lost = 0
        self.eligible = self.seat = self.preemptions = self.junction = 0
        self.running = self.in_prefill = False
        self.since = self.blocked_at = -1
        self.wake = self.last = 0
        self.keys = BlockKeys(self.number, prefix, hash_block_size)
        self.tables: list[Table] = [[] for _ in range(groups)]
        self.named = [0] * groups
        self.states: list[StateOf | None] = [None] * groups

    def __lt__(self, other: Request) -> bool:
        """Who is first in a queue by priority, where all have the same."""
        return (self.arrival, self.number) < (other.arrival, other.number)

    @property
    def prefill_end(self) -> int:
        """Where its prefill ends; a resumed request computes its outputs again."""
        return max(self.prompt, self.known - 1)
