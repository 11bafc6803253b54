"""Spoilt files and servers: a slice of ``benchmarks/fuzz_inputs.py``."""

from __future__ import annotations

import pytest

from benchmarks.fuzz_inputs import KINDS, broken_promise, findings, wrong_ending

SLICE = {"logs": 60, "traces": 60, "yaml": 25, "headers": 60, "hub": 15}


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
def test_the_same_seed_makes_the_same_input(kind: str) -> None:
    import random

    make = KINDS[kind][0]
    made = [make(random.Random(f"{kind} {number}")) for number in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
