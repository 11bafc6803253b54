"""``sweep``: every set-up has its row, whatever happens to the others or to the process."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_kv_planner import InputError, UnknownNameError, plan
from vllm_kv_planner.capacity.sweep.grid import make_grid
from vllm_kv_planner.capacity.sweep.names import canonical, read_axis, split_values
from vllm_kv_planner.capacity.sweep.run import sweep
from vllm_kv_planner.cli import main
from vllm_kv_planner.model.find import FoundConfig, find_config

MEMORY = ["--kv-cache-memory-bytes", "1G"]
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
LONG = ["gpt2", *MEMORY, "--grid", f"max_num_seqs={','.join(map(str, range(1, 3001)))}"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "vllm_kv_planner", "sweep", *arguments]


def run(*arguments: str) -> None:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = main(["sweep", *arguments])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    return err


# The grid


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


# Rows


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
    assert "2 rows, 2 planned now, of these 1 fit, 1 have an error" in err


def test_no_row_at_all_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "gpt2", *MEMORY, "--grid", "tp=5,7"]) == 1
    assert capsys.readouterr().out.count("\n") == 3


# A file that says what to sweep

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
        ("a: &a [*a]", "more than"),
        ("x" * ((1 << 20) + 1), "larger than 1 MiB"),
        ("model: gpt2\nmax_model_len: 2026-01-01", "no value of a flag"),
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
        (["gpt2", "--workers", "0"], "at least 1"),
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


# Files that are there already


def test_a_file_is_neither_lost_nor_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    output = ["--output", str(path)]
    run("gpt2", *MEMORY, "--grid", "tp=1,2", *output)
    before = path.read_bytes()
    assert "--resume continues it" in refused(capsys, "gpt2", *MEMORY, *output)
    other_columns = ["gpt2", *MEMORY, "--grid", "pp=1,2", *output, "--resume"]
    assert "other columns" in refused(capsys, *other_columns)
    other_value = ["gpt2", "--kv-cache-memory-bytes", "2G", "--grid", "tp=1,2"]
    assert "2 of its 2 rows" in refused(capsys, *other_value, *output, "--resume")
    fewer = ["gpt2", *MEMORY, "--grid", "tp=2", *output, "--resume"]
    assert "1 of its 2 rows" in refused(capsys, *fewer)
    path.write_bytes(before.replace(b",0.1.0,", b",0.0.1,"))
    same = ["gpt2", *MEMORY, "--grid", "tp=1,2", *output, "--resume"]
    assert "planned by version 0.0.1" in refused(capsys, *same)
    path.write_bytes(before + before.split(b"\n")[1] + b"\n")
    assert "a row twice" in refused(capsys, *same)
    path.write_bytes(before + b"a,b\n")
    assert "line 4 is no row" in refused(capsys, *same)
    path.write_bytes(before)
    run("gpt2", *MEMORY, "--grid", "tp=1,2,3", *output, "--resume")
    assert path.read_bytes().startswith(before) and len(table(path)) == 3
    run("gpt2", *MEMORY, "--grid", "tp=1,2", *output, "--overwrite")
    assert path.read_bytes() == before


def test_what_is_no_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.csv").mkdir()
    pipe = tmp_path / "rows.jsonl"
    os.mkfifo(pipe)
    for path in (tmp_path / "rows.csv", pipe):
        for flag in ("--resume", "--overwrite"):
            said = refused(capsys, "gpt2", *MEMORY, "--output", str(path), flag)
            assert "not a regular file" in said


def test_two_sweeps_do_not_share_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl

    path = tmp_path / "rows.csv"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = refused(capsys, "gpt2", *MEMORY, "--output", str(path), "--overwrite")
    assert "another sweep" in said


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_torn_line_is_planned_again(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"rows.{form}"
    arguments = ["gpt2", *MEMORY, "--grid", "tp=1,2,3,5", "--output", str(path)]
    run(*arguments)
    whole = path.read_bytes()
    ends = [at for at, byte in enumerate(whole) if byte == 10]
    for cut in (0, 1, ends[0], ends[1] + 1, ends[2] - 1, ends[-2] + 7, len(whole) - 1, len(whole)):
        path.write_bytes(whole[:cut])
        run(*arguments, "--resume")
        assert path.read_bytes() == whole, cut


def test_errors_can_be_tried_again(tmp_path: Path) -> None:
    path, config = tmp_path / "rows.csv", tmp_path / "config.json"
    arguments = ["gpt2", str(config), *MEMORY, "--output", str(path), "--resume"]
    run(*arguments)
    assert [bool(row["error"]) for row in table(path)] == [False, True]
    config.write_text(json.dumps(dict(find_config("gpt2").config)))
    run(*arguments)
    assert [bool(row["error"]) for row in table(path)] == [False, True]
    run(*arguments, "--retry-errors")
    assert [row["kv_cache.num_gpu_blocks"] for row in table(path)] == ["1820", "1820"]


def interrupted(path: Path, rows: Path, number: int, arguments: list[str]) -> tuple[int, str]:
    """Start a sweep, send it a signal once some rows are there; its exit code and stderr."""
    process = subprocess.Popen(
        command(*arguments, "--output", str(path), "--workers", "1"),
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (rows.exists() and rows.stat().st_size > 20_000):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_a_kill_leaves_whole_rows_and_resume_goes_on(tmp_path: Path) -> None:
    once, killed = tmp_path / "once.csv", tmp_path / "killed.csv"
    run(*LONG, "--output", str(once))
    code, _ = interrupted(killed, killed, signal.SIGKILL, LONG)
    assert code == -signal.SIGKILL
    left = killed.read_bytes()
    assert 20_000 < len(left) < once.stat().st_size
    assert once.read_bytes().startswith(left) and left.endswith(b"\n")
    run(*LONG, "--output", str(killed), "--resume")
    assert killed.read_bytes() == once.read_bytes()


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    journal = tmp_path / "rows.parquet.partial.jsonl"
    code, err = interrupted(path, journal, signal.SIGINT, LONG)
    assert (code, err.count("\n")) == (130, 1)
    assert "--resume goes on" in err and str(path) in err
    assert not path.exists()
    there = [json.loads(line) for line in journal.read_text().splitlines()]
    assert 0 < len(there) < 3000
    run(*LONG, "--output", str(path), "--resume")
    assert not journal.exists()
    seqs = parquet.read_table(path).column("max_num_seqs").to_pylist()
    assert seqs == list(range(1, 3001))
    # a finished file goes on too
    more = [*LONG[:-1], "max_num_seqs=" + ",".join(map(str, range(1, 3011)))]
    run(*more, "--output", str(path), "--resume")
    assert parquet.read_table(path).num_rows == 3010


def test_without_pyarrow_one_line(tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ImportError('none here')\n")
    done = subprocess.run(
        command("gpt2", *MEMORY, "--output", str(tmp_path / "rows.parquet")),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "pip install pyarrow" in done.stderr
    assert not (tmp_path / "rows.parquet").exists()


# Workers that die


class Deadly(dict[str, Any]):
    """A config that kills the process which reads it."""

    def get(self, *_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class Unreadable(dict[str, Any]):
    """A config that no rule foresees."""

    def get(self, *_: Any) -> Any:
        raise RuntimeError("a\nbug")


def rows_of(result: Any) -> list[dict[str, Any]]:
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def test_the_death_of_a_worker_is_one_rows_error() -> None:
    models = [
        "gpt2",
        FoundConfig("deadly", Deadly(find_config("gpt2").config), "local"),
        FoundConfig("unreadable", Unreadable(find_config("gpt2").config), "local"),
    ]
    grid = {"max_num_seqs": list(range(1, 41))}
    # the axis of models varies fastest: each chunk holds all kinds
    setups = [{"model": model} for model in models]
    result = sweep(grid=grid, setups=setups, kv_cache_memory_bytes=1 << 30, workers=2)
    rows = rows_of(result)
    assert [row["model"] for row in rows] == ["gpt2", "deadly", "unreadable"] * 40
    assert [row["max_num_seqs"] for row in rows] == [n for n in range(1, 41) for _ in range(3)]
    assert all(row["kv_cache.num_gpu_blocks"] == 1820 for row in rows[::3])
    assert all("SIGKILL, often for want of memory" in row["error"] for row in rows[1::3])
    assert all("internal error" in row["error"] and "a bug" in row["error"] for row in rows[2::3])
    assert (result.total, result.fit, result.errors) == (120, 40, 80)


def test_workers_that_cannot_start_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InputError, match="a worker process cannot start: exit status 1"):
        sweep("gpt2", kv_cache_memory_bytes=1 << 30)


# Python


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
        ({"gpus": [3]}, "no model or GPU"),
        ({"vllm_versions": ["x"]}, "not a version"),
        ({"planner": "me"}, "one of auto"),
        ({"machine": 3}, "not a Machine"),
        ({"workers": 0}, "at least 1"),
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
