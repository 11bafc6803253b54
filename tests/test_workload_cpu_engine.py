"""The schedule of our fake executor equals that of a real engine: vLLM's CPU build, tiny models."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.test_vllm_cpu_engine import MODELS
from tests.vllm_python import CPU, interpreter
from tests.workload_truth import step_row
from vllm_kv_planner import VLLMPlanner
from vllm_kv_planner.planning.request import plan_request
from vllm_kv_planner.vllm_adapter.workload import VLLMRun
from vllm_kv_planner.workload.types import Segment, TraceRequest

PYTHON = interpreter(CPU)
MIB = 1 << 20
SHARED = 70
CASES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"num_gpu_blocks_override": 12, "block_size": 32}),
    ("llama", {"num_gpu_blocks_override": 12, "block_size": 32, "enable_prefix_caching": False}),
    ("llama", {"num_gpu_blocks_override": 20, "block_size": 32, "max_num_batched_tokens": 64}),
    ("gemma3", {"num_gpu_blocks_override": 90, "block_size": 32}),
    ("delta_net", {"num_gpu_blocks_override": 30, "enable_prefix_caching": True}),
]
COMMON = {"max_model_len": 256, "kv_cache_memory_bytes": 64 * MIB}


def trace(seed: int) -> list[TraceRequest]:
    draw = random.Random(seed)
    requests = []
    for _ in range(24):
        prefix = (Segment("system", SHARED),) if draw.random() < 0.5 else ()
        tokens = draw.randint(1, 90) + SHARED * len(prefix)
        requests.append(TraceRequest(0.0, tokens, draw.randint(1, 60), prefix))
    return requests


def prompt(number: int, request: TraceRequest) -> list[int]:
    shared = [token for each in request.prefix for token in range(1, each.tokens + 1)]
    return shared + [100 + number] * (request.prompt_tokens - len(shared))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def real(folder: Path) -> list[dict[str, Any]]:
    """The steps of real engines, by case and whether they overlap."""
    lines = []
    for index, (model, arguments) in enumerate(CASES):
        config_class, model_class, values = MODELS[model]
        config = {"config_class": config_class, "model_class": model_class, "values": values}
        requests = [
            (prompt(number, each), each.output_tokens) for number, each in enumerate(trace(index))
        ]
        for overlap in (True, False):
            case = {
                "model": model,
                "config": config,
                "arguments": {**COMMON, **arguments, "async_scheduling": overlap},
                "requests": requests,
            }
            lines.append(json.dumps(case) + "\n")
    done = subprocess.run(
        [PYTHON, str(Path(__file__).with_name("vllm_cpu_schedules.py")), str(folder)],
        input="".join(lines),
        capture_output=True,
        text=True,
        env={**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"},
        timeout=900,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(lines), done.stderr[-3000:]
    return answers


@pytest.fixture(scope="module")
def planner() -> Any:
    with VLLMPlanner(python=PYTHON) as planner:
        yield planner


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_same_steps(
    index: int, overlap: bool, folder: Path, real: list[dict[str, Any]], planner: VLLMPlanner
) -> None:
    answer = real[2 * index + (not overlap)]
    assert "error" not in answer, answer["error"]
    model, arguments = CASES[index]
    request = plan_request(
        folder / model,
        gpu="cpu",
        planner="vllm",
        usage_context="llm",
        enforce_eager=True,
        async_scheduling=overlap,
        **COMMON,
        **arguments,
    )
    with VLLMRun(request, trace(index), planner=planner) as run:
        assert run.settings["max_concurrent_batches"] == answer["batches"]
        assert [step_row(step) for step in run.steps()] == answer["steps"]
