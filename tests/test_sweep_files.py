"""Files of rows: whole after a kill, continued, never mixed or lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from tests.sweep_runs import LLAMA, MEMORY, command, refused, run, table
from vllm_kv_planner.cli import main
from vllm_kv_planner.config.find import find_config

ROWS = 100
"""Of each value of ``long``'s slower axis."""


def long(values: int) -> list[str]:
    """So many times ``ROWS`` set-ups; those of fewer values are their beginning."""
    slow, fast = range(1, values + 1), range(8192, 8192 + ROWS)
    axes = {"max_num_seqs": slow, "max_num_batched_tokens": fast}
    texts = (f"{name}={','.join(map(str, axis))}" for name, axis in axes.items())
    return ["gpt2", *MEMORY, *(word for text in texts for word in ("--grid", text))]


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
    assert "line 4 is not a row" in refused(capsys, *same)
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
    for cut in (1, ends[0], ends[1] + 1, ends[-2] + 7, len(whole)):
        path.write_bytes(whole[:cut])
        run(*arguments, "--resume")
        assert path.read_bytes() == whole, cut


FOREIGN = [
    "my only copy",
    "my only copy\n",
    "name,size\na,1\nb,2",
    "name,size\na,1\nb,2\n",
    '{"a": 1}',
    '{"a": 1}\n{"a": 2}',
    "[1, 2, 3]\n",
    "gpu,models",
    "\ufeffgpu\n",
    "\0" * 40,
    "x" * 5_000_000,
]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_what_others_wrote_is_left_as_it_is(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    path = tmp_path / f"rows.{form}"
    beside = tmp_path / f"rows.{form}.tmp"
    beside.write_text("somebody's")
    names = [path] if form != "parquet" else [path, tmp_path / "rows.parquet.partial.jsonl"]
    for name in names:
        for text in FOREIGN:
            name.write_bytes(text.encode())
            for flags in (["--resume"], ["--resume", "--retry-errors"]):
                words = ["gpt2", *MEMORY, "--grid", "tp=1,2", "--output", str(path), *flags]
                said = refused(capsys, *words)
                assert str(name) in said
                assert name.read_bytes() == text.encode()
                assert sorted(tmp_path.iterdir()) == sorted([beside, name])
        name.unlink()
    assert beside.read_text() == "somebody's"


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_torn_row_of_another_sweep_is_not_cut(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"rows.{form}"
    ours = ["gpt2", *MEMORY, "--grid", "tp=1,2", "--output", str(path)]
    run(LLAMA, *MEMORY, "--grid", "tp=1,2", "--output", str(path))
    theirs = path.read_bytes()
    run(*ours, "--overwrite")
    header = theirs.index(b"\n") + 1 if form == "csv" else 0
    first = theirs.index(b"\n", header)
    for cut in (first, first - 1, first - 20, header + 40):
        path.write_bytes(theirs[:cut])
        refused(capsys, *ours, "--resume")
        assert path.read_bytes() == theirs[:cut]


def test_random_ends_are_kept_or_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever stands behind our rows: it is a row's beginning and goes, or the file stays."""
    path = tmp_path / "rows.csv"
    words = ["gpt2", *MEMORY, "--grid", "tp=1,2", "--output", str(path)]
    run(*words)
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    row = whole.index(b"\n", header) + 1
    random = Random(9)
    for _ in range(20):
        kept = random.choice([header, row])
        tail = random.choice(
            [
                whole[kept : kept + random.randrange(1, 400)],
                bytes(random.randrange(32, 127) for _ in range(random.randrange(1, 80))),
                whole[:kept],
            ]
        )
        path.write_bytes(whole[:kept] + tail)
        before = path.read_bytes()
        code = main(["sweep", *words, "--resume", "--workers", "1"])
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        if code == 0:
            assert path.read_bytes() == whole and whole.startswith(before)
        else:
            assert code == 2 and path.read_bytes() == before
            assert not whole.startswith(before)


def test_a_foreign_parquet_beside_our_journal_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    words = ["gpt2", *MEMORY, "--output", str(path)]
    run("gpt2", *MEMORY, "--output", str(tmp_path / "rows.jsonl"))
    (tmp_path / "rows.jsonl").rename(tmp_path / "rows.parquet.partial.jsonl")
    parquet.write_table(pyarrow.table({"a": [1]}), path)
    before = path.read_bytes()
    assert "other columns" in refused(capsys, *words, "--resume")
    assert path.read_bytes() == before


def test_an_overwritten_file_is_there_until_there_is_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("before")
    words = ["gpt2", *MEMORY, "--ray", "127.0.0.1:1", "--output", str(path), "--overwrite"]
    refused(capsys, *words)
    assert path.read_text() == "before"


def test_rows_are_not_written_over_what_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, link = tmp_path / "sweep.csv", tmp_path / "link.csv"
    path.write_text("model: gpt2\n")
    link.symlink_to(path)
    for output in (path, link):
        for flag in ("--resume", "--overwrite"):
            said = refused(capsys, "--file", str(path), "--output", str(output), flag)
            assert "also read" in said
    assert path.read_text() == "model: gpt2\n"


def test_a_full_disk_names_the_file_and_resume_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="needs a limit on the size of files")
    path = tmp_path / "rows.csv"
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1200, 1200)); "
        "from vllm_kv_planner.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["sweep", "gpt2", *MEMORY, "--grid", "tp=1,2,3", "--output", str(path)]
    done = subprocess.run(
        [sys.executable, "-B", "-c", limited, *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert f"{path}: cannot be written (File too large)" in done.stderr
    run(*words[1:], "--resume")
    assert len(table(path)) == 3


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
    code, _ = interrupted(killed, killed, signal.SIGKILL, long(300))
    assert code == -signal.SIGKILL
    left = killed.read_bytes()
    some_more = left.count(b"\n") // ROWS + 3  # of the 300, so that the test ends soon
    run(*long(some_more), "--output", str(once))
    assert once.read_bytes().startswith(left) and left.endswith(b"\n")
    run(*long(some_more), "--output", str(killed), "--resume")
    assert killed.read_bytes() == once.read_bytes()


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    journal = tmp_path / "rows.parquet.partial.jsonl"
    code, err = interrupted(path, journal, signal.SIGINT, long(300))
    assert (code, err.count("\n")) == (130, 1)
    assert "--resume goes on" in err and str(path) in err
    assert not path.exists()
    there = [json.loads(line) for line in journal.read_text().splitlines()]
    some_more = len(there) // ROWS + 3
    for values in (some_more, some_more + 1):  # a finished file goes on too
        run(*long(values), "--output", str(path), "--resume")
        assert not journal.exists()
        tokens = parquet.read_table(path).column("max_num_batched_tokens").to_pylist()
        assert tokens == [*range(8192, 8192 + ROWS)] * values


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
