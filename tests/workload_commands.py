"""Command lines of ``workload`` that its tests share, and ways to run them."""

from __future__ import annotations

import json

import pytest

from vllm_kv_planner.cli import main

# 20 blocks of 16 tokens and the null block. A prompt of 49 tokens takes 4 blocks, and with 15 more
# it still does: exactly 5 requests fit, and none ever needs another block.
FIVE = [
    "workload",
    "gpt2",
    "--gpu",
    "L4",
    "--max-model-len",
    "128",
    "--num-gpu-blocks-override",
    "21",
    "--prompt-tokens",
    "49",
    "--output-tokens",
    "15",
    "--requests",
    "20",
]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def as_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    code, out, err = run([*arguments, "--format", "json"], capsys)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert isinstance(found, dict)
    return found
