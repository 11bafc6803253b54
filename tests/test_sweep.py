"""``sweep``: every set-up has its row, and the row is its plan."""

from __future__ import annotations

import csv
import io
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sweep_runs import LLAMA, MEMORY, rows_of, run, table
from vllm_kv_planner import InputError, plan
from vllm_kv_planner.capacity.sweep.run import sweep
from vllm_kv_planner.cli import main
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.gpu.catalogue import find_gpu
from vllm_kv_planner.records import replace


def test_rows_are_plans(tmp_path: Path) -> None:
    output = tmp_path / "rows.csv"
    grid = ["--grid", "max_model_len=512,none", "--grid", "tensor_parallel_size=1,2,5"]
    run("gpt2", LLAMA, "--gpu", "L4,H100", *MEMORY, *grid, "--output", str(output))
    rows = table(output)
    given = [
        (row["gpu"], row["model"], row["max_model_len"], row["tensor_parallel_size"])
        for row in rows
    ]
    models = ("gpt2", LLAMA)
    lengths, sizes = ("512", ""), ("1", "2", "5")
    assert given == list(itertools.product(("L4", "H100"), models, lengths, sizes))
    # 1 GiB / (12 layers x 49,152 bytes a block of 16 tokens)
    assert rows[0]["kv_cache.num_gpu_blocks"] == "1820"
    failed = [row for row in rows if row["error"]]
    assert len(failed) == 8
    for row in failed:
        assert row["tensor_parallel_size"] == "5" and "divisible" in row["error"]
        assert row["fits"] == row["kv_cache.num_gpu_blocks"] == row["notes"] == ""
    # a GiB holds 8,192 tokens of 131,072 bytes, and the model may have 131,072 tokens
    fits = [row["fits"] for row in rows if row["model"] == LLAMA and not row["error"]]
    assert fits == ["True", "True", "False", "False"] * 2


def test_columns_are_those_of_the_plans_csv(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "gpt2", *MEMORY, "--format", "csv"]) == 0
    (planned,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert main(["sweep", "gpt2", *MEMORY]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    own = {"gpu", "model", "kv_cache_memory_bytes", "error", "key"}
    assert {name: value for name, value in row.items() if name not in own} == planned


def test_the_formats_say_the_same(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    from pyarrow import parquet

    grid = ["gpt2", *MEMORY, "--grid", "tensor_parallel_size=1,5", "--grid", "max_model_len=9,none"]
    for form in ("csv", "jsonl", "parquet"):
        run(*grid, "--output", str(tmp_path / f"rows.{form}"))
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "rows.csv",
        "rows.jsonl",
        "rows.parquet",
    ]
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows[0]["kv_cache.groups"][0]["num_layers"] == 12

    def flat(value: Any) -> Any:
        return json.dumps(value) if isinstance(value, list | dict) else value

    flat_rows = [{name: flat(value) for name, value in row.items()} for row in rows]
    stored = parquet.read_table(tmp_path / "rows.parquet")
    assert stored.to_pylist() == flat_rows
    assert str(stored.schema.field("kv_cache.num_gpu_blocks").type) == "int64"
    assert str(stored.schema.field("kv_cache.max_concurrency").type) == "double"
    texts = [{k: "" if v is None else str(v) for k, v in row.items()} for row in flat_rows]
    assert table(tmp_path / "rows.csv") == texts


def test_versions_are_an_axis(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", LLAMA, "--gpu", "H100", "--vllm-version", "0.15,0.33"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["vllm_version"] for row in rows] == ["0.15", "0.33"]
    # vLLM's default before and after it was raised
    assert [row["engine.gpu_memory_utilization"] for row in rows] == ["0.9", "0.92"]


def test_a_hand_made_model_and_a_gpu_by_its_memory(capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["--custom", "--layers", "80", "--kv-heads", "8", "--head-dim", "128"]
    gpu = ["--gpu", "H100,L4", "--gpu-memory", "48GiB"]
    memory = ["--kv-cache-memory-bytes", "40G"]
    grid = ["--grid", "max_model_len=4K,8K"]
    assert main(["sweep", *shape, *memory, *gpu, *grid, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    # 2 x 80 x 8 x 128 x 2 bytes
    assert {row["kv_cache.bytes_per_token"] for row in rows} == {327_680}
    assert {row["gpu.total_memory_bytes"] for row in rows} == {48 << 30}
    assert [row["engine.max_model_len"] for row in rows] == [4096, 8192] * 2
    assert not any("no length of its own" in note for note in rows[0]["notes"][1:])


def test_a_model_nobody_has_is_rows_with_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "config.json")
    assert main(["sweep", "gpt2", missing, *MEMORY]) == 0
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [bool(row["error"]) for row in rows] == [False, True]
    assert "no such file" in rows[1]["error"]
    assert "rows: 2, planned now: 2, of these fit: 1, with an error: 1, the first: " in err


def test_no_row_at_all_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "gpt2", *MEMORY, "--grid", "tp=5,7"]) == 1
    assert capsys.readouterr().out.count("\n") == 3


def test_the_python_api_gives_what_plan_gives() -> None:
    result = sweep(
        ["gpt2", find_config(LLAMA)],
        gpus=["L4", "H100"],
        grid={"max_model_len": [512, None]},
        setups=[{"tensor_parallel_size": 1}, {"tensor_parallel_size": 2, "max_num_seqs": 8}],
        gpu_memory_utilization=0.8,
    )
    rows = rows_of(result)
    assert len(rows) == result.total == 16
    for row in rows:
        flags = {"tensor_parallel_size": row["tensor_parallel_size"], "gpu_memory_utilization": 0.8}
        also = {name: row[name] for name in ("max_model_len", "max_num_seqs") if row[name]}
        one = plan(row["model"], gpu=row["gpu"], **flags, **also)
        assert row["kv_cache.num_gpu_blocks"] == one.kv_cache.num_gpu_blocks
        assert row["memory.available_kv_cache_bytes"] == one.memory.available_kv_cache_bytes
        assert row["notes"] == list(one.notes)
    assert "kv_cache.num_gpu_blocks" in result._repr_html_()
    assert result.to_dict()["rows"] == [list(row) for row in result.rows]


def test_a_sweep_into_a_file_from_python(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    seen: list[int] = []
    grid = {"tensor_parallel_size": [1, 2]}
    memory = {"kv_cache_memory_bytes": 1 << 30}
    result = sweep("gpt2", grid=grid, output=str(path), progress=seen.append, **memory)
    assert (result.rows, result.total, seen[-1]) == ((), 2, 2)
    again = sweep("gpt2", grid=grid, output=str(path), resume=True, **memory)
    assert (again.kept, again.fit) == (2, 0)
    assert str(path) in str(again)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"grid": {"max_model_len": "8K"}}, "not a list of values"),
        ({"grid": {"max_model_length": [1]}}, "--max-model-len"),
        ({"max_model_length": 1}, "max-model-len"),
        ({"grid": {"max_num_seqs": [1]}, "max_num_seqs": 2}, "for all rows already"),
        ({"setups": [3]}, r"setups\[0\]"),
        ({"gpus": [3]}, "neither a model, a GPU"),
        (
            {"gpus": [find_gpu("L4"), replace(find_gpu("L4"), num_sms=1)]},
            "two different models or GPUs are called",
        ),
        ({"vllm_versions": ["x"]}, "not a version"),
        ({"planner": "me"}, "one of auto"),
        ({"machine": 3}, "not a Machine"),
        ({"workers": 0}, "a whole number, 1 to"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        sweep("gpt2", **arguments)


def test_values_that_cannot_be_are_rows_with_an_error() -> None:
    grid = {"tensor_parallel_size": [1, "2", True]}
    result = sweep("gpt2", grid=grid, kv_cache_memory_bytes=1 << 30)
    errors = [row["error"] for row in rows_of(result)]
    assert errors[0] is None
    assert "'2' is not a whole number" in errors[1] and "True is not" in errors[2]


def test_the_example_runs() -> None:
    example = Path(__file__).parents[1] / "examples" / "sweep_example.py"
    arguments = ["--model", LLAMA, "--gpus", "T4,H100", "--context", "8192"]
    done = subprocess.run(
        [sys.executable, str(example), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, _, turing, hopper = done.stdout.splitlines()
    assert first.startswith("16 set-ups")
    # 8 x 72.85 GiB less 15 GiB of weights, and half a GiB for 8,192 tokens of 65,536 bytes
    assert 900 < float(hopper.split()[1]) < 1136
    assert hopper.endswith("-tp 8 --kv-cache-dtype fp8")
    assert turing.startswith("  T4")
