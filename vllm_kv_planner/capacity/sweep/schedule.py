"""Hand chunks of set-ups to workers, and give what comes back in the order of the grid."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple, Protocol

from .grid import Setup
from .work import Answer, Chunk, Outcome

CHUNK_SECONDS = 0.1
"""Work in one chunk: much longer than handing it over takes, short enough to show progress."""
LONGEST_CHUNK = 256
MOST_AHEAD = 4096
"""Rows begun beyond the first that is not done yet: what is held in memory at most."""


class Died(NamedTuple):
    """In place of an answer: the worker is gone."""

    why: str


class Pool(Protocol):
    """Workers by number; one chunk at a time each."""

    size: int

    def submit(self, worker: int, chunk: Chunk) -> None:
        """Give an idle worker a chunk; a worker that died is replaced."""

    def next(self) -> tuple[int, Answer | Died]:
        """Wait for any worker."""

    def close(self) -> None:
        """End all workers, whatever they are doing."""


Numbered = tuple[int, Setup]


def in_order(pool: Pool, setups: Iterable[Setup]) -> Iterator[list[tuple[Setup, Outcome]]]:
    """What came of every set-up, in order, as soon as all before it are done.

    When a worker dies with a chunk, its set-ups are tried one by one: who kills a worker alone
    is to blame.
    """
    todo: Iterator[Numbered] = enumerate(setups)
    alone: deque[Numbered] = deque()
    idle = deque(range(pool.size))
    flying: dict[int, list[Numbered]] = {}
    done: dict[int, tuple[Setup, Outcome]] = {}
    first, begun, size = 0, 0, 1
    while True:
        while idle:
            ahead = begun - first
            chunk = [alone.popleft()] if alone else _take(todo, min(size, MOST_AHEAD - ahead))
            if not chunk:
                break
            begun = max(begun, chunk[-1][0] + 1)
            worker = idle.popleft()
            flying[worker] = chunk
            pool.submit(worker, [setup for _, setup in chunk])
        if not flying:
            return
        worker, answer = pool.next()
        idle.append(worker)
        chunk = flying.pop(worker)
        if isinstance(answer, Died):
            if len(chunk) > 1:
                alone.extend(chunk)
                continue
            answer = (0.0, [f"the worker process died: {answer.why}"])
        seconds, outcomes = answer
        size = chunk_size(seconds / len(chunk))
        for (number, setup), outcome in zip(chunk, outcomes, strict=True):
            done[number] = (setup, outcome)
        ready = []
        while first in done:
            ready.append(done.pop(first))
            first += 1
        if ready:
            yield ready


def _take(todo: Iterator[Numbered], most: int) -> list[Numbered]:
    return list(islice(todo, max(0, most)))


def chunk_size(seconds_a_row: float) -> int:
    """How many set-ups make a chunk of ``CHUNK_SECONDS``."""
    if seconds_a_row * LONGEST_CHUNK <= CHUNK_SECONDS:
        return LONGEST_CHUNK
    return max(1, int(CHUNK_SECONDS / seconds_a_row))
