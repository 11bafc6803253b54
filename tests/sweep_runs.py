"""How the tests of ``sweep`` run it."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vllm_kv_planner.cli import main

MEMORY = ["--kv-cache-memory-bytes", "1G"]
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "vllm_kv_planner", "sweep", *arguments]


def run(*arguments: str) -> None:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = main(["sweep", *arguments])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    return err


def rows_of(result: Any) -> list[dict[str, Any]]:
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]
