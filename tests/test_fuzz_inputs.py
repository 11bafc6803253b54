"""Spoilt files and servers: a slice of ``benchmarks/fuzz_inputs.py``."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.fuzz_inputs import KINDS, broken_promise, findings, too_large, wrong_ending
from benchmarks.hub_behaviours import TOKEN, Clock, too_much

SLICE = {
    **{"logs": 60, "stores": 40, "traces": 60, "yaml": 25, "headers": 60},
    **{"hub": 15, "behaviours": 30},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_of_the_fuzzer_finds_nothing(kind: str) -> None:
    """The whole: ``python benchmarks/fuzz_inputs.py``, some thousand inputs of any seed."""
    assert [wrong for _, wrong, _ in findings(kind, SLICE[kind], seed=20)] == []


def test_the_fuzzer_sees_what_it_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "vllm-kv-planner: error: x\n"
    assert wrong_ending(2, "", line) is None and wrong_ending(1, "a plan", "") is None
    for code, out, err in ((2, "", line * 2), (2, "", "\x1b\n"), (2, "x", line), (3, "", line)):
        assert wrong_ending(code, out, err) is not None
    assert wrong_ending(0, "", "") is not None
    assert broken_promise(["plan", "gpt2"]) is None
    monkeypatch.setattr("benchmarks.fuzz_inputs.CALLS", 100)
    assert broken_promise(["plan", "gpt2"]) == "more than 100 calls"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_makes_the_same_input(kind: str, tmp_path: Path) -> None:
    make, name, commands = KINDS[kind]
    folder = tmp_path / "m"
    folder.mkdir()
    chances = [random.Random(f"{kind} {number}") for number in (1, 1, 2)]
    made = [(make(each), commands(folder / name, each), each.random()) for each in chances]
    assert made[0] == made[1] != made[2]


def test_the_fuzzers_hub_sees_too_much_work(monkeypatch: pytest.MonkeyPatch) -> None:
    server = SimpleNamespace(connections=1, sent=1, url="http://127.0.0.1:7", requests=[])
    clock = Clock(1, 0.0)
    assert too_much(clock, server) is None
    server.requests.append(
        b"GET / HTTP/1.1\r\nHost: localhost:7\r\nAuthorization: " + TOKEN.encode()
    )
    assert "another host" in str(too_much(clock, server))
    clock.reads = 10**6
    assert too_much(clock, server) == "1,000,000 reads, at most 5,000"
    assert wrong_ending(0, f"plan {TOKEN}", "") == "a secret is shown"
    assert wrong_ending(0, "a\x1b[31m", "") == "prints '\\x1b'"
    monkeypatch.setattr("benchmarks.fuzz_inputs.MEMORY", 1)
    assert "MiB of memory" in str(too_large())
