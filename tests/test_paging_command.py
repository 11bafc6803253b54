"""``vllm-kv-planner paging``: what it prints, in every format, and its exit codes."""

from __future__ import annotations

import csv
import io
import json

import pytest

from vllm_kv_planner import UnsupportedError
from vllm_kv_planner.capacity.paging import paging
from vllm_kv_planner.cli import main

from .paging_cases import GIB, LLAMA, PER_TOKEN


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    code = main(["paging", *arguments])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    out = run([LLAMA, "-tp", "8", "--scenario", "100x512@8K"], capsys)
    lines = out.splitlines()
    assert lines[0] == f"{LLAMA}, bytes on one of 8 x NVIDIA H100 80GB HBM3, blocks of 16 tokens"
    # an eighth of 250 GiB, and of 15.625
    assert " ".join(lines[2].split()).startswith("100 x 512 in 8,192 31.25 GiB 1.95 GiB")
    out = run(["google/gemma-3-27b-it", "--gpu", "H200"], capsys)
    assert max(map(len, out.splitlines()[:6])) <= 120
    assert "padding" in out and "windows free up to" in out


def test_json_csv_and_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    flags = [LLAMA, "--scenario", "7x500@8K", "--format"]
    found = json.loads(run([*flags, "json"], capsys))
    assert found["schema_version"] == 1
    assert found["scenarios"][0]["unfilled_bytes"] == 7 * 12 * PER_TOKEN
    (row,) = csv.DictReader(io.StringIO(run([*flags, "csv"], capsys)))
    assert row["paged_bytes"] == str(7 * 512 * PER_TOKEN)
    assert "| 7 x 500 in 8,192 |" in run([*flags, "markdown"], capsys)


def test_a_pasted_command(capsys: pytest.CaptureFixture[str]) -> None:
    serve = ["--", "vllm", "serve", LLAMA, "--max-model-len", "2048", "--block-size", "32"]
    out = run(["--scenario", "3x33", "--format", "json", *serve], capsys)
    (row,) = json.loads(out)["scenarios"]
    assert (row["max_model_len"], row["paged_bytes"]) == (2048, 3 * 64 * PER_TOKEN)
    # the classic scenarios state their own lengths
    assert main(["paging", *serve]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no model named"),
        (["gpt2", "gpt2"], "unexpected argument 'gpt2'"),
        (["gpt2", "--max-model-len", "100"], "every scenario states its own"),
        (["gpt2", "-tp", "5"], "must be divisible"),
        (["gpt2", "--", "vllm", "serve", "gpt2"], "the model stands in the pasted command"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["paging", *arguments])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_hand_made_models(capsys: pytest.CaptureFixture[str]) -> None:
    hand_made = ["--custom", "--layers", "80", "--kv-heads", "8", "--head-dim", "128"]
    found = json.loads(run([*hand_made, "--format", "json"], capsys))
    assert found["scenarios"][0]["contiguous_bytes"] == 250 * GIB
    assert found["scenarios"][0]["fit_paged"] is None
    assert any("--kv-cache-memory-bytes" in note for note in found["notes"])
    known = ["--kv-cache-memory-bytes", "40G", "--format", "json"]
    found = json.loads(run([*hand_made, *known], capsys))
    assert found["scenarios"][0]["fit_paged"] == 255


def test_the_notebook_form() -> None:
    answer = paging("gpt2", ["3x100"])
    assert "<table>" in answer._repr_html_() and "gpt2" in answer._repr_html_()
    assert str(answer).startswith("openai-community/gpt2, bytes on one of 1 x")


def test_vllm_s_own_planner_cannot_answer() -> None:
    with pytest.raises(UnsupportedError, match="leave it at auto"):
        paging("gpt2", planner="vllm")
