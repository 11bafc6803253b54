"""Requests on their way through the engine, the queues they wait in, and the steps they run in."""

from __future__ import annotations

import heapq
from array import array
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ..records import dataclass, field
from .blocks import BlockKeys, Table
from .types import EngineSettings, Segment


class Arrived(NamedTuple):
    """A request that waits and has not been looked at yet; names as of ``Request``.

    ``output`` are the tokens that it generates, ``prefix`` is what its prompt begins with.
    """

    number: int
    arrival: float
    joined: int
    prompt: int
    output: int
    prefix: tuple[Segment, ...]


@dataclass(eq=False)
class StateOf:
    """A request's recurrent states in one group (``states.py``), where prefix caching keeps them.

    Attributes:
        last: Position of the state that the running one was made from.
        retired: Positions below it have been given back.
        has_blocks: Whether it has been given blocks since it was admitted.
        checkpoint: Tokens, and position, of a state exported in the middle of a step.
    """

    last: int | None = None
    retired: int = 0
    has_blocks: bool = False
    checkpoint: tuple[int, int] | None = None


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
        lost: Tokens that were computed when it was preempted last.
        junction: Where other requests' shared prefix ends, if some group has not kept it; else 0.
        tables: Its blocks, a group at a time.
        named: How many of a table's first blocks have their name already.
        admission: Grows in the order of admission.
        since: From which ``schedule()`` on its counts advance by themselves (``fast.py``); -1: they
            do not.
        wake: The ``schedule()`` that has to look at it next.
        last: The ``schedule()`` that computes its last token.
        blocked_at: The pool's ``changes`` when there was no room for it.
    """

    __slots__ = (
        *("admission", "arrival", "blocked_at", "computed", "eligible", "end", "in_flight"),
        *("in_prefill", "joined", "junction", "keys", "known", "last", "lost", "named", "number"),
        *("placeholders", "preemptions", "prompt", "running", "since", "stale", "states"),
        *("tables", "wake"),
    )

    def __init__(self, arrived: Arrived, end: int, groups: int, hash_block_size: int) -> None:
        self.number, self.arrival, self.joined, self.prompt, _, prefix = arrived
        self.known = self.prompt
        self.end = end
        self.computed = self.in_flight = self.placeholders = self.stale = self.lost = 0
        self.eligible = self.admission = self.preemptions = self.junction = 0
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


@dataclass(eq=False)
class Step:
    """What one ``schedule()`` decided.

    Attributes:
        scheduled: Tokens of each request that runs.
        sampling: Those of them that get an output: all but unfinished prefills.
        admitted: Requests that came out of the waiting queue, with the tokens found for them.
        preempted: Requests that lost their blocks.
        finished: Requests that ended with this step's output, once that is back.
        tokens: Of all requests together.
        limit: What kept the first waiting request out: ``blocks``, ``slots``, ``tokens``,
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
    tokens: int = 0
    limit: str = ""


CHUNK = 4096


class Backlog:
    """Requests in the order they arrived, some forty bytes each, however many wait."""

    def __init__(self) -> None:
        self._chunks: deque[tuple[array[float], array[int], list[tuple[Segment, ...]]]] = deque()
        self._first = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, arrived: Arrived) -> None:
        """One more."""
        if not self._chunks or len(self._chunks[-1][2]) == CHUNK:
            self._chunks.append((array("d"), array("q"), []))
        times, counts, prefixes = self._chunks[-1]
        times.append(arrived.arrival)
        counts.extend((arrived.number, arrived.joined, arrived.prompt, arrived.output))
        prefixes.append(arrived.prefix)
        self._count += 1

    def pop(self) -> Arrived:
        """The first one."""
        times, counts, prefixes = self._chunks[0]
        at = self._first
        number, joined, prompt, output = counts[4 * at : 4 * at + 4]
        arrived = Arrived(number, times[at], joined, prompt, output, prefixes[at])
        self._count -= 1
        self._first += 1
        if self._first == len(prefixes):
            self._chunks.popleft()
            self._first = 0
        return arrived


class WaitingQueue:
    """First come, first served; a preempted request goes to the front.

    Source: vLLM 0.33 ``v1/core/sched/request_queue.py``.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._queue: deque[Request] = deque()
        self._backlog = Backlog()

    def __len__(self) -> int:
        return len(self._queue) + len(self._backlog)

    def first(self) -> Request:
        """Who is next."""
        if not self._queue:
            self._queue.append(self.made(self._backlog.pop()))
        return self._queue[0]

    def pop(self) -> Request:
        """Take out who is next."""
        return self._queue.popleft()

    def add(self, arrived: Arrived) -> None:
        """A request arrives."""
        self._backlog.add(arrived)

    def put_back(self, requests: Iterable[Request]) -> None:
        """Requests that were before all others, the foremost last."""
        self._queue.extendleft(requests)

    def remove(self, request: Request) -> None:
        """Take a request out, wherever it is."""
        self._queue.remove(request)

    def made(self, arrived: Arrived) -> Request:
        """The request, ready to run."""
        settings = self._settings
        end = min(arrived.prompt + arrived.output, settings.max_model_len)
        return Request(arrived, end, len(settings.groups), settings.hash_block_size)

    @staticmethod
    def victim(running: list[Request]) -> int:
        """Whom to preempt: the last one in."""
        return len(running) - 1


class SortedQueue(WaitingQueue):
    """By priority; a trace has none, so by arrival."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self._heap: list[Request] = []

    def __len__(self) -> int:
        return len(self._heap)

    def first(self) -> Request:
        """Who is next."""
        return self._heap[0]

    def pop(self) -> Request:
        """Take out who is next."""
        return heapq.heappop(self._heap)

    def add(self, arrived: Arrived) -> None:
        """A request arrives."""
        heapq.heappush(self._heap, self.made(arrived))

    def put_back(self, requests: Iterable[Request]) -> None:
        """Each to its place."""
        for request in requests:
            heapq.heappush(self._heap, request)

    def remove(self, request: Request) -> None:
        """Take a request out, wherever it is."""
        self._heap.remove(request)
        heapq.heapify(self._heap)

    @staticmethod
    def victim(running: list[Request]) -> int:
        """Whom to preempt: the first of those that arrived last."""
        return max(range(len(running)), key=lambda at: (running[at].arrival, -at))
