"""Chunks of set-ups handed to worker processes; what comes back is in the order of the grid.

A worker is a fresh interpreter. ``concurrent.futures`` would fork or spawn: a caller may have
threads or a CUDA context, which no fork survives, and may have no ``__main__`` guard, which spawn
needs. And its executor is broken for good once a worker is killed (for want of memory, say), and
does not tell whose chunk that was.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from multiprocessing import connection as connections
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Protocol, cast

from ...errors import UnsupportedError
from .work import Answer, Chunk, Outcome, Planning, Setup, Work

CHUNK_SECONDS = 0.1
"""Work in one chunk: much longer than handing it over takes, short enough to show progress."""
LONGEST_CHUNK = 256
MOST_AHEAD = 4096
"""Rows begun beyond the first that is not done yet: what is held in memory at most."""


class Died(str):
    """In place of an answer: why the worker is gone."""


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
            most = max(0, min(size, MOST_AHEAD - (begun - first)))
            chunk = [alone.popleft()] if alone else list(islice(todo, most))
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
            answer = (0.0, [f"the worker process died: {answer}"])
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


def chunk_size(seconds_a_row: float) -> int:
    """How many set-ups make a chunk of ``CHUNK_SECONDS``."""
    if seconds_a_row * LONGEST_CHUNK <= CHUNK_SECONDS:
        return LONGEST_CHUNK
    return max(1, int(CHUNK_SECONDS / seconds_a_row))


READY = "ready"


def main(file_descriptor: int) -> None:
    """Receive the common work once, then a chunk and send its answer, again and again."""
    # leave the usual way, so that a vLLM started here ends too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # on Windows pipes have a class, and a handle, of their own
    kind: Any = getattr(connections, "PipeConnection", connections.Connection)
    connection = kind(file_descriptor)
    try:
        planning = Planning(connection.recv())
        connection.send(READY)
        while True:
            connection.send(planning.run(connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # whoever asked is gone, or done


VLLM_BYTES = 3 << 30
"""Memory to leave for each worker that asks vLLM: 0.33 with torch takes some 2 GB."""
_START = (
    # -c looks in the current directory first, where a model's folder may have a json.py
    "import sys; del sys.path[0]; import json; sys.path[:] = json.loads(sys.argv[1]); "
    "from vllm_kv_planner.capacity.sweep.pool import main; main(int(sys.argv[2]))"
)
_PATIENCE = 10.0  # seconds for a worker to leave before it is killed


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers(planner: str) -> int:
    """One a core; fewer where each may hold a vLLM and memory is short."""
    from ...vllm_adapter.shared import is_installed

    if planner == "standalone" or (planner == "auto" and not is_installed()):
        return cores()
    return max(1, min(cores(), available_memory() // VLLM_BYTES))


def available_memory() -> int:
    """Bytes that programs could still take, as Linux estimates."""
    with suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return VLLM_BYTES


def inherited(number: int) -> dict[str, Any]:
    """What lets a process have one end of a pipe, and leaves Ctrl-C to whoever began the sweep."""
    if os.name != "nt":
        return {"pass_fds": [number], "start_new_session": True}
    windows: Any = subprocess
    handles: Any = os
    handles.set_handle_inheritable(number, True)  # there it is a handle, no file descriptor
    return {
        "startupinfo": windows.STARTUPINFO(lpAttributeList={"handle_list": [number]}),
        "creationflags": windows.CREATE_NEW_PROCESS_GROUP,
    }


class _Worker:
    """One process and the connection to it."""

    def __init__(self, work: Work) -> None:
        self.connection, theirs = Pipe()
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        with theirs:
            number = theirs.fileno()
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps([*map(str, sys.path)]), str(number)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._words,
                **inherited(number),
            )
        self.is_ready = False
        with suppress(BrokenPipeError, ConnectionResetError):  # told by the end of file
            self.connection.send(work)

    def why_it_died(self) -> str:
        """How the process ended, and the last thing it said."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_PATIENCE)
        code = self.process.returncode
        if code is not None and code < 0:
            names = {each.value: each.name for each in signal.Signals}  # not all have one
            name = names.get(-code, f"signal {-code}")
            return f"{name}{', often for want of memory' if name == 'SIGKILL' else ''}"
        self._words.seek(0)
        lines = self._words.read().decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"exit status {code}" + (f": {last[:300]}" if last else "")

    def ask_to_leave(self) -> None:
        """At the end of its chunk at once, in a chunk as soon as it can."""
        self.connection.close()
        self.process.terminate()

    def end(self) -> None:
        """Gone for sure."""
        self.ask_to_leave()
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._words.close()


class ProcessPool:
    """Processes that are started when they are first needed; see ``Pool``."""

    def __init__(self, work: Work, size: int) -> None:
        self.size = size
        self._work = work
        self._workers: dict[int, _Worker] = {}

    def submit(self, worker: int, chunk: Chunk) -> None:
        """Give an idle worker a chunk; a worker that died is replaced."""
        process = self._workers.get(worker)
        if process is None or process.process.poll() is not None:
            if process is not None:
                process.end()
            process = self._workers[worker] = _Worker(self._work)
        with suppress(BrokenPipeError, ConnectionResetError):  # told by the end of file
            process.connection.send(chunk)

    def next(self) -> tuple[int, Answer | Died]:
        """Wait for any worker; a worker that cannot even start is an UnsupportedError."""
        while True:
            numbers = {each.connection: number for number, each in self._workers.items()}
            for connection in wait(list(numbers)):
                number = numbers[cast("Connection", connection)]
                answer = self._received(self._workers[number])
                if answer is not None:
                    if isinstance(answer, Died):
                        self._workers.pop(number).end()
                    return number, answer

    def _received(self, worker: _Worker) -> Answer | Died | None:
        """What a worker sent; None where it only said that it is there."""
        try:
            message = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            why = worker.why_it_died()
            if not worker.is_ready:
                raise UnsupportedError(f"a worker process cannot start: {why}") from None
            return Died(why)
        if message == READY:
            worker.is_ready = True
            return None
        answer: Answer = message
        return answer

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        for worker in self._workers.values():
            worker.ask_to_leave()
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()
