"""``launch`` with a real server: vLLM's CPU build, planned first, then started, then stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.vllm_python import CPU, free_port, interpreter

PYTHON = interpreter(CPU)
MODEL = {
    "config_class": "LlamaConfig",
    "model_class": "LlamaForCausalLM",
    "values": {
        "hidden_size": 128,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "max_position_embeddings": 1024,
    },
}
SECONDS = 300


def test_a_server_is_planned_started_and_stopped(tmp_path: Path) -> None:
    model = tmp_path / "llama"
    making = f"from tests.vllm_cpu_engines import make_model; make_model({str(model)!r}, {MODEL!r})"
    root = Path(__file__).parents[1]
    subprocess.run([PYTHON, "-c", making], check=True, capture_output=True, cwd=root)
    # the server's own module: the CPU build's vllm program asks for a package of another name
    server = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    flags = ["--skip-tokenizer-init", "--enforce-eager", "--max-model-len", "512"]
    served = [*server, *flags, "--kv-cache-memory-bytes", "64M", "--port", str(free_port())]
    ours = [sys.executable, "-m", "vllm_kv_planner", "launch", "--gpu", "cpu", "--planner", "vllm"]
    plan, log, scratch = tmp_path / "plan", tmp_path / "log", tmp_path / "scratch"
    scratch.mkdir()
    variables = {"KV_PLANNER_PYTHON": PYTHON, "HF_HUB_OFFLINE": "1", "TMPDIR": str(scratch)}
    with plan.open("w") as stderr, log.open("w") as stdout:
        process = subprocess.Popen(
            [*ours, "--", "VLLM_LOGGING_LEVEL=INFO", *served],
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **variables},
        )
        try:
            deadline = time.monotonic() + SECONDS
            while "startup complete" not in plan.read_text() + log.read_text():
                assert process.poll() is None and time.monotonic() < deadline, plan.read_text()
                time.sleep(0.2)
            assert not list(scratch.glob("vllm-kv-planner-*"))  # the vLLM that planned has ended
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
    # what was planned before the start is what the engine logged
    predicted, actual = plan.read_text(), log.read_text()
    tokens = re.search(r"GPU KV cache size +([\d,]+) tokens", predicted)
    assert tokens is not None and f"KV cache size: {tokens[1]} tokens" in actual
    concurrency = re.search(r"Maximum concurrency +([\d.]+)x", predicted)
    assert concurrency is not None and f"per request: {concurrency[1]}x" in actual
    assert str(model) in predicted
