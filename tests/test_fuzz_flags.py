"""A slice of ``benchmarks/fuzz_flags.py``, and the lines it found."""

from __future__ import annotations

import pytest

from benchmarks.fuzz_flags import apart, finding, run


@pytest.mark.parametrize("seed", [11, 12])
def test_random_command_lines_keep_the_promises(seed: int) -> None:
    assert run(150, seed) == []


FOUND = [
    ["plan", "gpt2", "--gpu=--"],
    ["plan", "gpt2", "--max-model-len=--"],
    ["plan", "gpt2", "--kv-cache-dtype-skip-layers", "9" * 5000],
    ["plan", "gpt2", "--gpu-memory", "9" * 5000],
    ["plan", "gpt2", "--hf-overrides", "[" * 100_000],
    ["compare", "gpt2", "--custom-model=--"],
    ["sweep", "gpt2", "--grid=--"],
    ["workload", "gpt2", "--prompt-tokens=--"],
    ["fit", "gpt2", "--price=--"],
    ["explain", "--model=--", "x.log"],
]


@pytest.mark.parametrize("line", FOUND, ids=lambda line: " ".join(line)[:40])
def test_lines_that_once_broke_a_promise(line: list[str]) -> None:
    with apart():
        assert finding(line) == ""
