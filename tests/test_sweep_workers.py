"""Workers of a sweep: they answer in any order, die, or cannot start."""

from __future__ import annotations

import os
import random
import signal
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sweep_runs import rows_of
from vllm_kv_planner import InputError
from vllm_kv_planner.capacity.sweep.pool import Died, in_order
from vllm_kv_planner.capacity.sweep.run import sweep
from vllm_kv_planner.capacity.sweep.work import Answer, Chunk, Outcome, Setup
from vllm_kv_planner.config.find import FoundConfig, find_config


class Deadly(dict[str, Any]):
    """A config that kills the process which reads it."""

    def get(self, *_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class Unreadable(dict[str, Any]):
    """A config that no rule foresees."""

    def get(self, *_: Any) -> Any:
        raise RuntimeError("a\nbug")


def test_the_death_of_a_worker_is_one_rows_error() -> None:
    models = [
        "gpt2",
        FoundConfig("deadly", Deadly(find_config("gpt2").config), "local"),
        FoundConfig("unreadable", Unreadable(find_config("gpt2").config), "local"),
    ]
    grid = {"max_num_seqs": list(range(1, 11))}
    # the axis of models varies fastest: each chunk holds all kinds
    setups = [{"model": model} for model in models]
    result = sweep(grid=grid, setups=setups, kv_cache_memory_bytes=1 << 30, workers=2)
    rows = rows_of(result)
    assert [row["model"] for row in rows] == ["gpt2", "deadly", "unreadable"] * 10
    assert [row["max_num_seqs"] for row in rows] == [n for n in range(1, 11) for _ in range(3)]
    assert all(row["kv_cache.num_gpu_blocks"] == 1820 for row in rows[::3])
    assert all("SIGKILL, often for want of memory" in row["error"] for row in rows[1::3])
    assert all("internal error" in row["error"] and "a bug" in row["error"] for row in rows[2::3])
    assert (result.total, result.fit, result.errors) == (30, 10, 20)


def test_workers_that_cannot_start_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InputError, match="a worker process cannot start: exit status 1"):
        sweep("gpt2", kv_cache_memory_bytes=1 << 30)


class Reordered:
    """A pool whose workers answer in any order, and die of some set-ups."""

    def __init__(self, size: int, chance: random.Random) -> None:
        self.size = size
        self._chance = chance
        self._flying: dict[int, Chunk] = {}

    def submit(self, worker: int, chunk: Chunk) -> None:
        assert chunk and worker not in self._flying and 0 <= worker < self.size
        self._flying[worker] = chunk

    def next(self) -> tuple[int, Answer | Died]:
        worker = self._chance.choice(list(self._flying))
        chunk = self._flying.pop(worker)
        if any(setup["dies"] for setup in chunk):
            return worker, Died("so")
        outcomes: list[Outcome] = [(setup["number"],) for setup in chunk]
        return worker, (self._chance.choice([0.0, 0.001, 1.0]) * len(chunk), outcomes)

    def close(self) -> None:
        assert not self._flying


@given(
    st.lists(st.booleans(), max_size=400),
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
def test_rows_come_in_order_whatever_the_workers_do(
    dies: list[bool], size: int, chance: random.Random
) -> None:
    setups: list[Setup] = [{"number": n, "dies": each} for n, each in enumerate(dies)]
    found = [each for ready in in_order(Reordered(size, chance), setups) for each in ready]
    assert [setup for setup, _ in found] == setups
    for setup, outcome in found:
        wanted = "the worker process died: so" if setup["dies"] else (setup["number"],)
        assert outcome == wanted
