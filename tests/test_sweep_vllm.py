"""``sweep --planner vllm``: vLLM's own answers, from worker processes and from a Ray cluster."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vllm_python import CUDA, interpreter

PYTHON = interpreter(CUDA)
GRID = [
    *("gpt2", "google/gemma-2-9b-it", "--kv-cache-memory-bytes", "4G"),
    *("--grid", "max_model_len=512,none", "--grid", "block_size=none,7"),
]


def sweep(path: Path, *arguments: str) -> list[dict[str, str]]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "vllm_kv_planner",
            "sweep",
            *GRID,
            "--output",
            str(path),
            *arguments,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "KV_PLANNER_PYTHON": PYTHON, "RAY_AUTH_MODE": "disabled"},
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, str]]:
    """Two GPUs by one worker: it ends the vLLM of one before it starts that of the other."""
    vllm = ["--planner", "vllm", "--gpu", "L4,H100", "--workers", "1"]
    return sweep(folder / "vllm.csv", *vllm)


def test_rows_are_vllms_answers(rows: list[dict[str, str]], folder: Path) -> None:
    ours = sweep(folder / "ours.csv", "--planner", "standalone", "--gpu", "L4,H100")
    assert len(rows) == len(ours) == 16
    for theirs, own in zip(rows, ours, strict=True):
        assert bool(theirs["error"]) == bool(own["error"]) == (own["block_size"] == "7")
        if not theirs["error"]:
            assert theirs["planner.name"] == "vllm"
            for name in ("num_gpu_blocks", "max_concurrency", "groups", "kv_cache_size_tokens"):
                assert theirs[f"kv_cache.{name}"] == own[f"kv_cache.{name}"]


def test_a_ray_cluster_gives_the_same_rows(rows: list[dict[str, str]], folder: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray: pip install ray")
    on_ray = ["--planner", "vllm", "--gpu", "L4,H100", "--ray", "local", "--workers", "1"]
    assert sweep(folder / "ray.csv", *on_ray) == rows
