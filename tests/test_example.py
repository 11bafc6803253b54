"""The example script, run as a user runs it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "examples" / "kv_cache_memory_estimator.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HOME": "/nonexistent"},
    )


def labels(output: str) -> list[str]:
    return [line.split(":")[0] for line in output.splitlines() if ":" in line]


def test_gpt2_at_1024_tokens() -> None:
    done = run("--model", "gpt2", "--seq-len", "1024")
    assert (done.returncode, done.stderr) == (0, "")
    assert labels(done.stdout) == [
        "Model",
        "Layers",
        "KV heads",
        "Head size",
        "Batch size",
        "Seq length",
        "Dtype",
        "Rule",
        "Approx KV cache memory",
        "vLLM reserves whole blocks",
    ]
    # 2 x 12 layers x 12 heads x 64 x 2 bytes x 1024 tokens
    assert "Approx KV cache memory: 0.0352 GiB (36.00 MiB)" in done.stdout
    assert "64 blocks a sequence" in done.stdout
    assert not re.search(r"\bGB\b|\bMB\b", done.stdout)


@pytest.mark.parametrize(
    ("dtype", "mebibytes"),
    [("fp16", "36.00"), ("bf16", "36.00"), ("fp32", "72.00"), ("fp8", "18.00"), ("auto", "36.00")],
)
def test_dtypes(dtype: str, mebibytes: str) -> None:
    done = run("--model", "gpt2", "--seq-len", "1024", "--dtype", dtype)
    assert f"({mebibytes} MiB)" in done.stdout


def test_kv_heads_not_query_heads() -> None:
    done = run("--model", "meta-llama/Llama-3.1-8B-Instruct", "--seq-len", "8192")
    assert "KV heads:      8\n" in done.stdout
    # 131,072 bytes a token
    assert "Approx KV cache memory: 1.00 GiB" in done.stdout


def test_whole_blocks_of_every_sequence() -> None:
    done = run("--model", "gpt2", "--seq-len", "1000", "--batch-size", "4")
    # 63 blocks of 589,824 bytes, four times
    reserved = "63 blocks a sequence, 0.0346 GiB (35.44 MiB) each, 0.1384 GiB (141.75 MiB) in all"
    assert reserved in done.stdout


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("google/gemma-3-27b-it", "52 x sliding window 1,024: 16 KV heads of 128"),
        ("deepseek-ai/DeepSeek-V3", "61 x MLA latent of 1,152 bytes a token"),
        ("Qwen/Qwen3-Next-80B-A3B-Thinking", "36 x state of"),
    ],
)
def test_what_is_not_plain_attention_is_shown_as_it_is(model: str, said: str) -> None:
    done = run("--model", model, "--seq-len", "4096")
    assert said in done.stdout
    assert "KV heads:" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "gtp2", "--seq-len", "1024"], "gpt2"),
        (["--model", "gpt2", "--seq-len", "0"], "--seq-len"),
        (["--model", "gpt2", "--seq-len", "8", "--batch-size", "-1"], "--batch-size"),
        (["--model", "gpt2", "--seq-len", "8", "--dtype", "fp7"], "fp7"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


WRONG: list[list[str]] = [
    ["compare_models.py", "--gpu", "H1000"],
    ["compare_models.py", "--context", "many"],
    ["compare_models.py", "--nope"],
    ["sweep_example.py", "--model", "nobody/x"],
    ["sweep_example.py", "--gpus", "nope"],
    ["sweep_example.py", "--context", "\x1b[31m"],
    ["workload_example.py", "--gpu", "nope"],
    ["workload_example.py", "--requests", "0"],
    ["plan_then_launch.py"],
    ["plan_then_launch.py", "--model", "gpt2", "--max-model-len", "x"],
]


def of_example(words: list[str], *before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *before, str(ROOT / "examples" / words[0]), *words[1:]],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HOME": "/nonexistent"},
    )


@pytest.mark.parametrize("words", WRONG, ids=ascii)
def test_wrong_input_of_any_example(words: list[str]) -> None:
    done = of_example(words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: ") and done.stderr[:-1].isprintable()


@pytest.mark.parametrize("example", sorted(path.name for path in SCRIPT.parent.glob("*.py")))
def test_without_the_planner(example: str) -> None:
    done = of_example([example, "--model", "gpt2"], "-I", "-S")  # no package at all
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "pip install vllm-kv-planner" in done.stderr


def test_without_vllm() -> None:
    if importlib.util.find_spec("vllm") is not None:
        pytest.skip("vLLM is installed here")
    done = of_example(["plan_then_launch.py", "--model", "gpt2"])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "vLLM is not installed" in done.stderr
