"""Worker processes on this machine, one a core unless told otherwise."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, cast

from ...errors import UnsupportedError
from .schedule import Died
from .work import Answer, Chunk, Work
from .worker import READY

VLLM_BYTES = 3 << 30
"""Memory to leave for each worker that asks vLLM: 0.33 with torch takes some 2 GB."""
_START = (
    # -c looks in the current directory first, where a model's folder may have a json.py
    "import sys; del sys.path[0]; import json; sys.path[:] = json.loads(sys.argv[1]); "
    "from vllm_kv_planner.capacity.sweep.worker import main; main(int(sys.argv[2]))"
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
    """What lets a process have one end of a pipe, and leaves Ctrl-C to whoever started the sweep.

    Args:
        number: The end's file descriptor; on Windows its handle.
    """
    if os.name != "nt":
        return {"pass_fds": [number], "start_new_session": True}
    windows: Any = subprocess
    handles: Any = os
    handles.set_handle_inheritable(number, True)
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
    """Processes that are started when they are first needed; see ``schedule.Pool``."""

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
        """Wait for any worker.

        Raises:
            UnsupportedError: A worker cannot even start.
        """
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
