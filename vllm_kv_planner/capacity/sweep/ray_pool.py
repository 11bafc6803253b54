"""Workers on a Ray cluster: one actor a CPU, each with a vLLM of its own where vLLM answers."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Any

from ... import version
from ...errors import InputError, UnsupportedError, one_line
from .pool import VLLM_BYTES, Died
from .work import Answer, Chunk, Planning, Work

PYTHON = "KV_PLANNER_PYTHON"
"""As ``vllm_adapter.client.PYTHON``: the interpreter with vLLM, at the same place on every node."""
_PATIENCE = 10.0  # seconds for an address to answer, and for actors to end their vLLM
_HOST_AND_PORT = re.compile(r"(?:ray://)?(\[[0-9a-fA-F:]+\]|[^:/]+):(\d{1,5})")


class RayPool:
    """Actors on a cluster; see ``pool.Pool``."""

    def __init__(self, work: Work, address: str, size: int | None, *, planner: str) -> None:
        """Connect, or use the connection that this process has already.

        ``address`` is as ``ray.init`` takes it: ``auto``, ``HOST:PORT``, ``ray://HOST:PORT``,
        ``local`` for a cluster of this machine alone. ``size`` None: one actor a CPU, fewer where
        each holds a vLLM and memory is short.
        """
        try:
            import ray
        except ImportError:
            raise UnsupportedError("--ray: Ray is not installed: pip install ray") from None
        self._ray = ray
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            connect(ray, address)
        most = _capacity(ray, planner)
        self.size = most if size is None else min(size, most)
        self._work = ray.put(work)
        named = {PYTHON: os.environ[PYTHON]} if PYTHON in os.environ else {}
        self._remote = ray.remote(
            num_cpus=1, scheduling_strategy="SPREAD", runtime_env={"env_vars": named}
        )(Planning)
        self._actors: dict[int, Any] = {}
        self._waiting: dict[Any, int] = {}

    def submit(self, worker: int, chunk: Chunk) -> None:
        """Give an idle worker a chunk; a worker that died is replaced."""
        actor = self._actors.get(worker)
        if actor is None:
            actor = self._actors[worker] = self._remote.remote(self._work)
        self._waiting[actor.run.remote(chunk)] = worker

    def next(self) -> tuple[int, Answer | Died]:
        """Wait for any worker; an actor that cannot even start is an UnsupportedError."""
        (done, *_), _ = self._ray.wait(list(self._waiting), num_returns=1)
        worker = self._waiting.pop(done)
        try:
            answer: Answer = self._ray.get(done)
        except self._ray.exceptions.RayError as error:
            why = one_line(str(error))[:300]
            if getattr(error, "actor_init_failed", False):
                raise UnsupportedError(f"--ray: an actor cannot start: {why}") from None
            self._end(self._actors.pop(worker))
            return worker, Died(why)
        return worker, answer

    def _end(self, actor: Any) -> None:
        with suppress(Exception):  # it may be gone already
            self._ray.kill(actor)

    def close(self) -> None:
        """End the actors; leave the cluster if it was this pool that joined it."""
        ended = [actor.close.remote() for actor in self._actors.values()]
        if ended:  # those in the middle of a plan are not waited for
            self._ray.wait(ended, num_returns=len(ended), timeout=_PATIENCE)
        for actor in self._actors.values():
            self._end(actor)
        self._actors.clear()
        if self._is_ours:
            self._ray.shutdown()


def connect(ray: Any, address: str) -> None:
    """Join the cluster, with this very package for its workers."""
    _check_reachable(address)
    package = os.path.dirname(os.path.abspath(version.__file__))
    environment = {"py_modules": [package], "excludes": ["__pycache__"]}
    try:
        ray.init(
            address=address, runtime_env=environment, log_to_driver=False, logging_level="error"
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:  # ConnectionError is OSError
        raise InputError(f"--ray {address[:200]}: {one_line(str(error))[:300]}") from None


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes before it says that nobody is there."""
    import socket

    match = _HOST_AND_PORT.fullmatch(address)
    if match is None:
        return
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        why = one_line(str(error))[:200]
        raise InputError(f"--ray {address[:200]}: nobody answers there ({why})") from None


def _capacity(ray: Any, planner: str) -> int:
    """Actors that the cluster has room for now."""
    free = ray.available_resources()  # what is not free at all is not listed
    if "CPU" not in free:
        free = ray.cluster_resources()
    actors = int(free.get("CPU", 1))
    if planner == "vllm":
        actors = min(actors, int(free.get("memory", 0)) // VLLM_BYTES)
    return max(1, actors)
