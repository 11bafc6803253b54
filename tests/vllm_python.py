"""The Python interpreters that have vLLM, for tests that ask it."""

from __future__ import annotations

import os
import socket

import pytest

CUDA = "VLLM_KV_PLANNER_TEST_VLLM_PYTHON"
"""Names an interpreter with the PyPI wheel of vLLM 0.33 (CUDA)."""
CPU = "VLLM_KV_PLANNER_TEST_CPU_PYTHON"
"""Names an interpreter with vLLM's CPU build."""


def interpreter(variable: str) -> str:
    """The interpreter; a skip of the whole module, in one line, where none is named."""
    python = os.environ.get(variable)
    if not python:
        pytest.skip(
            f"needs vLLM: set {variable} (.ci/vllm-environments makes it)", allow_module_level=True
        )
    return python


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
