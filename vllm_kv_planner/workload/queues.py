"""Where requests wait.

Source: vLLM 0.33 ``v1/core/sched/request_queue.py``; a request thrown out goes to the front, or,
where the queue is sorted, to its place.
"""

from __future__ import annotations

import heapq
from array import array
from collections import deque
from collections.abc import Iterable

from .settings import EngineSettings
from .state import Arrived, Request
from .types import Segment

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
    """First come, first served."""

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
        """Whom to throw out: the last one in."""
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
        """Whom to throw out: the first of those that arrived last."""
        return max(range(len(running)), key=lambda at: (running[at].arrival, -at))
