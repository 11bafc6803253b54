"""The tables of flags and of their JSON keys, beside the parser of an installed vLLM."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .vllm_python import CUDA, interpreter

PYTHON = interpreter(CUDA)
TOOL = Path(__file__).resolve().parent.parent / "tools" / "make_flags.py"


def test_the_tables_are_those_of_vllm() -> None:
    done = subprocess.run(
        [PYTHON, str(TOOL), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "319 flags" in done.stdout
