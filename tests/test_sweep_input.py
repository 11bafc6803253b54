"""What ``sweep`` is asked for: axes, values, a YAML file; and what it refuses."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sweep_runs import refused
from vllm_kv_planner import InputError, UnknownNameError
from vllm_kv_planner.capacity.sweep.names import canonical, read_axis, split_values
from vllm_kv_planner.capacity.sweep.work import make_grid
from vllm_kv_planner.cli import main


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True), max_size=4))
def test_a_grid_is_the_product_of_its_axes(values: list[list[int]]) -> None:
    axes = {f"a{number}": axis for number, axis in enumerate(values)}
    grid = make_grid(axes)
    found = [tuple(grid[number].values()) for number in range(len(grid))]
    assert found == list(itertools.product(*values))


def test_explicit_setups_are_one_more_axis() -> None:
    pair = [{"max_model_len": 8, "max_num_seqs": 1}, {"max_model_len": 9}]
    grid = make_grid({"gpu": ["L4", "H100", "L4"]}, pair)
    assert [grid[number] for number in range(len(grid))] == [
        {"gpu": gpu, **setup} for gpu in ("L4", "H100") for setup in pair
    ]
    assert grid.names == ("gpu", "max_model_len", "max_num_seqs")


def test_a_grid_without_end_is_refused() -> None:
    with pytest.raises(InputError, match="at most 10,000,000"):
        make_grid({name: range(1000) for name in ("a", "b", "c")})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1,2", ["1", "2"]),
        ("8K, 32K", ["8K", "32K"]),
        ('{"a": 1, "b": [1, 2]},none', ['{"a": 1, "b": [1, 2]}', "none"]),
        ('{"a": "},\\"{,"},2', ['{"a": "},\\"{,"}', "2"]),
    ],
)
def test_values_stand_between_commas(text: str, parts: list[str]) -> None:
    assert split_values(text, "--grid x") == parts


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("max_model_len=8k,8K,auto", ("max_model_len", [8000, 8192, -1])),
        ("tp=1,2", ("tensor_parallel_size", [1, 2])),
        ("--enforce-eager=true,none", ("enforce_eager", [True, None])),
        ("cudagraph-capture-sizes=1 2,4", ("cudagraph_capture_sizes", [(1, 2), (4,)])),
        (
            'speculative_config={"method": "ngram", "num_speculative_tokens": 3},none',
            ("speculative_config", [{"method": "ngram", "num_speculative_tokens": 3}, None]),
        ),
        ("gpus=L4,none", ("gpu", ["L4", None])),
    ],
)
def test_an_axis_is_read_as_its_flag_reads(text: str, axis: tuple[str, list[Any]]) -> None:
    assert read_axis(text) == axis


def test_names_nobody_knows_are_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="--tensor-parallel-size"):
        canonical("tensor_paralel_size", "--grid")
    with pytest.raises(UnknownNameError, match="did you mean vllm_version"):
        canonical("vlm_version", "--grid")
    with pytest.raises(InputError, match="port changes nothing"):
        canonical("port", "--grid")
    with pytest.raises(InputError, match="revision is of all models"):
        canonical("revision", "--grid")


FILE = """
models: [gpt2, facebook/opt-125m]
gpu: L4
kv_cache_memory_bytes: 1G
setups:
  - {max-model-len: 512, max_num_seqs: 8}
  - {tensor_parallel_size: 2, enforce_eager: true}
"""


def test_a_yaml_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(FILE)
    assert main(["sweep", "--file", str(path), "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = ("gpu", "model", "kv_cache_memory_bytes", "max_model_len", "enforce_eager")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("L4", "gpt2", 1 << 30, 512, None),
        ("L4", "gpt2", 1 << 30, None, True),
        ("L4", "facebook/opt-125m", 1 << 30, 512, None),
        ("L4", "facebook/opt-125m", 1 << 30, None, True),
    ]
    assert [row["engine.enforce_eager"] for row in rows] == [False, True] * 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("model: gpt2\nmax_modellen: 1", "--max-model-len"),
        ("model: gpt2\nmax_model_len: [1, 2.5x]", "max_model_len"),
        ("model: gpt2\nmax_model_len: []", "without a value"),
        ("model: gpt2\ngpu: H1000", "unknown GPU"),
        ("model: gpt2\ntp: 1\ntensor_parallel_size: 2", "there twice"),
        ("model: gpt2\nsetups: {tp: 1}", "setups must be a list"),
        ("model: gpt2\nsetups: [{}]", "setups[0] must hold"),
        ("model: gpt2\nsetups: [{tp: 1}, {tp: [1, [2]]}]", "setups[1] tp"),
        ("model: gpt2\ntp: 2\nsetups: [{tp: 1}]", "given for all rows already"),
        ("setups: [{tp: 1}]", "no model named"),
        ("model: gpt2\nvllm_version: 0.30", "in quotes"),
        ("model: gpt2\nvllm_version: new", "not a version"),
        ("- gpt2", "name: value lines"),
        ("model: [", "is not YAML"),
        ("model: !!python/object/apply:os.system ['true']", "is not YAML"),
        ("a: &a [*a]", "alias refers to what it is a part of"),
        ("x" * ((1 << 20) + 1), "larger than 1 MiB"),
        ("model: gpt2\nmax_model_len: 2026-01-01", "not a value of a flag"),
    ],
)
def test_files_that_are_refused(
    tmp_path: Path, content: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(content)
    assert said in refused(capsys, "--file", str(path))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no model named"),
        (["gpt2", "--grid", "tp"], "NAME=VALUE"),
        (["gpt2", "--grid", "tp="], "empty value"),
        (["gpt2", "--grid", "tp=1,,2"], "empty value"),
        (["gpt2", "--grid", "tp=1,x"], "not a whole number"),
        (["gpt2", "--grid", "enforce_eager=maybe"], "true, false, none"),
        (["gpt2", "-tp", "2", "--grid", "tp=1"], "given twice"),
        (["gpt2", "--grid", "model=gpt2"], "given twice"),
        (["gpt2", "--gpu", "H1000"], "unknown GPU"),
        (["gpt2", "--gpu-memory", "48GiB"], "--gpu NAME"),
        (["gpt2", "--resume"], "--output"),
        (["gpt2", "--output", "rows.txt"], ".csv, .jsonl, .parquet"),
        (["gpt2", "--output", "rows.csv", "--format", "csv"], "--format"),
        (["gpt2", "--output", "rows.csv", "--resume", "--overwrite"], "one of them"),
        (["gpt2", "--output", "rows.csv", "--retry-errors"], "goes with --resume"),
        (["gpt2", "--workers", "0"], "1 to 1,024"),
        (["gpt2", "--workers", "1000000"], "1 to 1,024"),
        (["no/such-model-anywhere/at-all"], "neither a folder"),
        (["--custom", "gpt2"], "one is"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if said == "one is":
        said = "describes the model by hand"
    assert said in refused(capsys, *arguments)
    assert not list(tmp_path.iterdir())
