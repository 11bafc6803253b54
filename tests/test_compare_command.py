"""``vllm-kv-planner compare``: what it prints, in every format, and its exit codes."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.examples import output_of
from vllm_kv_planner.cli import main

pytest_plugins = ["tests.hub_fixtures"]
pytestmark = pytest.mark.usefixtures("offline")


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["compare", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_hand_made_models_take_part(capsys: pytest.CaptureFixture[str]) -> None:
    # DeepSeek-67B: 95 layers of 8 heads of 128
    spec = "DeepSeek-67B=layers:95,kv-heads:8,head-dim:128"
    hand_made = ["--custom", "--layers", "32", "--kv-heads", "8", "--head-dim", "128"]
    code, out, err = run(["gpt2", "--custom-model", spec, *hand_made, "--format", "json"], capsys)
    assert (code, err) == (0, "")
    gpt2, alone, named = json.loads(out)["models"]
    assert gpt2["model"] == "openai-community/gpt2"
    assert alone["bytes_per_token"] == 131_072
    assert (named["model"], named["bytes_per_token"]) == ("DeepSeek-67B", 389_120)
    assert [each["request_bytes"] for each in named["at"]] == [8192 * 389_120, 32768 * 389_120]
    # its weights are not known, so nothing is said of a GPU
    assert named["max_model_len"] is None and named["at_maximum"] is None
    assert named["available_kv_cache_bytes"] is None
    assert named["at"][0]["max_concurrency"] is None


def test_hand_made_models_with_memory(capsys: pytest.CaptureFixture[str]) -> None:
    spec = "ours=layers:80,kv-heads:8,head-dim:128"
    flags = ["--kv-cache-memory-bytes", "40G", "--max-model-len", "8K", "--format", "json"]
    code, out, _ = run(["--custom-model", spec, *flags], capsys)
    (row,) = json.loads(out)["models"]
    # 40 GiB of 2.5 GiB requests
    assert code == 0
    assert row["at_maximum"]["max_concurrency"] == 16.0
    assert row["at"][1] is None


@pytest.mark.parametrize(
    "spec",
    [
        "layers:32",
        "=layers:32,kv-heads:8,head-dim:128",
        "a=layers:32,kv-heads:8",
        "a=layers:32,layers:32,kv-heads:8,head-dim:128",
        "a=layers:x,kv-heads:8,head-dim:128",
        "a=layers:-1,kv-heads:8,head-dim:128",
        "a=rank:1",
        "a=",
    ],
)
def test_hand_made_models_that_cannot_be(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["--custom-model", spec], capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--custom-model" in err and "NAME=layers:32,kv-heads:8,head-dim:128" in err


def test_the_exit_code_says_whether_all_were_answered(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["gpt2", "nobody/nothing"], capsys)
    assert (code, err) == (1, "")
    assert "not planned: nobody/nothing: " in out
    # a model that does not fit is answered
    assert run(["meta-llama/Llama-2-70b-hf"], capsys)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gpt2", "--gpu", "H10000"], "unknown GPU"),
        (["gpt2", "--vllm-version", "x"], "--vllm-version"),
        (["gpt2", "--length", "8K,32K"], "--length"),
        (["gpt2", "--length", "0"], "length 0"),
        (["gpt2", "--layers", "3"], "--custom"),
        (["gpt2", "--gpu-memory", "0"], "must be positive"),
        (["--gpu", "L4", "--", "vllm", "serve", "gpt2"], "no pasted command"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_csv_and_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["gpt2", "nobody/nothing", "--length", "512", "--format", "csv"], capsys)
    first, second = csv.DictReader(io.StringIO(out))
    assert code == 1
    assert (first["model"], first["request_bytes_512"]) == ("openai-community/gpt2", "18874368")
    assert first["reason"] == "" and "nobody/nothing" in second["reason"]
    _, out, _ = run(["gpt2", "--length", "512", "--format", "markdown"], capsys)
    assert "| openai-community/gpt2 | 36,864 | 0.018 GiB |" in out


def test_names_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["\033[31mred"], capsys)
    assert code == 1 and "\033" not in out


def test_the_example_runs() -> None:
    printed = output_of("compare_models.py", "--gpu", "L40S", "gpt2", "Qwen/Qwen3-8B")
    assert "most requests of 16,384 tokens: Qwen/Qwen3-8B" in printed
