"""Where requests wait.

Source: vLLM 0.33 ``v1/core/sched/request_queue.py``; a request thrown out goes to the front, or,
where the queue is sorted, to its place.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable

from .state import Request


class WaitingQueue:
    """First come, first served."""

    def __init__(self) -> None:
        self._queue: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def first(self) -> Request:
        """Who is next."""
        return self._queue[0]

    def pop(self) -> Request:
        """Take out who is next."""
        return self._queue.popleft()

    def add(self, request: Request) -> None:
        """A request arrives."""
        self._queue.append(request)

    def put_back(self, requests: Iterable[Request]) -> None:
        """Requests that were before all others, the foremost last."""
        self._queue.extendleft(requests)

    def remove(self, request: Request) -> None:
        """Take a request out, wherever it is."""
        self._queue.remove(request)

    @staticmethod
    def victim(running: list[Request]) -> int:
        """Whom to throw out: the last one in."""
        return len(running) - 1


class SortedQueue(WaitingQueue):
    """By priority; a trace has none, so by arrival."""

    def __init__(self) -> None:
        self._heap: list[Request] = []

    def __len__(self) -> int:
        return len(self._heap)

    def first(self) -> Request:
        """Who is next."""
        return self._heap[0]

    def pop(self) -> Request:
        """Take out who is next."""
        return heapq.heappop(self._heap)

    def add(self, request: Request) -> None:
        """A request arrives."""
        heapq.heappush(self._heap, request)

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
