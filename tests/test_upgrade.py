"""``upgrade``: two versions of vLLM side by side, and why they differ."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from vllm_kv_planner import InputError, UnsupportedError, plan, plan_request, upgrade
from vllm_kv_planner.capacity.upgrade import FIGURES, FOLLOWS
from vllm_kv_planner.cli import main
from vllm_kv_planner.memory.versions import all_reasons

pytest_plugins = ["tests.hub_fixtures"]
pytestmark = pytest.mark.usefixtures("offline")
NEXT = "Qwen/Qwen3-Next-80B-A3B-Instruct"


def run(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["upgrade", *line.split()])
    out, err = capsys.readouterr()
    return code, out, err


def answered(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code, out, err = run(f"--format json {line}", capsys)
    assert err == ""
    return code, json.loads(out)


def test_what_0_28_and_0_33_changed_for_a_hybrid_on_b200(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, found = answered(f"--from 0.26 --gpu B200 -- vllm serve {NEXT} -tp 2", capsys)
    changes = {each["figure"]: each for each in found["changes"]}
    assert code == 0 and found["fits"] and found["schema_version"] == 1
    step = changes["max_num_batched_tokens"]
    assert (step["before"], step["after"], step["since"]) == (8192, 16384, ["0.28"])
    assert "160 GiB" in step["why"][0]
    caching = changes["enable_prefix_caching"]
    assert (caching["before"], caching["after"], caching["since"]) == (False, True, ["0.28"])
    size = changes["block_size"]
    assert (size["before"], size["after"], size["since"]) == (544, 576, ["0.33"])
    assert any("GatedDeltaNet" in why for why in size["why"])
    for path, version in (("before", "0.26"), ("after", None)):
        alone = plan(NEXT, gpu="B200", tensor_parallel_size=2, vllm_version=version)
        assert changes["num_gpu_blocks"][path] == alone.kv_cache.num_gpu_blocks
        assert changes["concurrency"][path] == alone.kv_cache.max_concurrency


def test_flags_that_the_later_version_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    line = "--from 0.17 --gpu H100 -- vllm serve Qwen/Qwen3-8B --swap-space 4"
    code, found = answered(line, capsys)
    assert code == 1 and not found["fits"]
    assert len(found["refused_flags"]) == 1 and "--swap-space" in found["refused_flags"][0]
    code, out, _ = run(line, capsys)
    assert code == 1 and "refused: " in out
    code, found = answered(line.replace("--from", "--to 0.26 --from"), capsys)
    assert found["refused_flags"] == ["vLLM 0.26 has no --swap-space: it went after 0.17.1"]


def test_the_images_tag_is_the_version_that_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    line = "--gpu H100 -- docker run vllm/vllm-openai:v0.29.0 --model Qwen/Qwen3-8B"
    assert answered(line, capsys)[1]["before"] == "0.29.0"


def test_a_version_that_is_not_planned_for_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = answered("--from 0.20 --gpu H100 ai21labs/AI21-Jamba-1.5-Mini", capsys)
    assert code == 1 and found["changes"] == []
    assert found["refusal"].startswith("vLLM 0.20: refused: JambaForCausalLM keeps states")


def test_text_and_csv_hold_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    line = "--from 0.19 --gpu H100 Qwen/Qwen3-32B -tp 2"
    _, found = answered(line, capsys)
    _, table, _ = run(f"--format csv {line}", capsys)
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["figure"] for row in rows] == [each["figure"] for each in found["changes"]]
    _, text, _ = run(line, capsys)
    assert "gpu_memory_utilization: the default is 0.92, not 0.9" in text
    assert "Qwen/Qwen3-32B from vLLM 0.19 to 0.33" in text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Qwen/Qwen3-8B", "--from V, the version that serves now"),
        ("--from 0.33 Qwen/Qwen3-8B", "--to 0.33 is no later version than --from 0.33"),
        ("--from 0.28 --to 0.27 gpt2", "--to 0.27 is no later version than --from 0.28"),
        ("--from 0.9 gpt2", "known from 0.10 to 0.33"),
        ("--from abc gpt2", "known from 0.10 to 0.33"),
        ("--from 0.28 --to abc gpt2", "known from 0.10 to 0.33"),
        ("--from 0.28 --vllm-version 0.28 gpt2", "leave --vllm-version out"),
        ("--from 0.28 --planner vllm gpt2", "leave --planner vllm out"),
        ("--from 0.28 gpt2 Qwen/Qwen3-8B", "one model at a time"),
        ("--from 0.28 -- vllm serve gpt2 --swap-space 4", "--swap-space"),
    ],
)
def test_wrong_input_is_one_line(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(line, capsys)
    assert (code, out) == (2, "")
    assert words in err and err.count("\n") == 1


def test_in_python() -> None:
    request = plan_request("Qwen/Qwen3-32B", gpu="H100", tensor_parallel_size=2)
    found = upgrade(request, before="0.31", after="0.33")
    assert found.fits and {"KV memory", "verdict"} <= {each.figure for each in found.changes}
    with pytest.raises(InputError, match="no later version"):
        upgrade(request, before="0.33")
    with pytest.raises(UnsupportedError):
        upgrade(request, before="0.28", after="0.99")


def test_every_reason_names_figures_that_are_shown() -> None:
    figures = {label for label, _, _ in FIGURES}
    for _, moved, why in all_reasons():
        assert moved and set(moved) <= figures and why
    assert set(FOLLOWS) <= figures
    assert {each for row in FOLLOWS.values() for each in row} <= figures
