"""What is written: whole or not at all, beside nobody else's files, never over what is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workload_commands import FIVE, run
from vllm_kv_planner.errors import InputError
from vllm_kv_planner.files.written import check_apart, whole_file

TRACE = "Timestamp,Request tokens,Response tokens\n0,49,15\n1,49,15\n"
ENGINE = ["workload", "gpt2", "--gpu", "L4", "--max-model-len", "128", "--arrivals", "all"]


def test_all_or_nothing(tmp_path: Path) -> None:
    path, others = tmp_path / "page.html", tmp_path / "page.html.tmp"
    path.write_text("before")
    path.chmod(0o640)
    others.write_text("somebody's")
    with pytest.raises(KeyError), whole_file(str(path)) as file:
        file.write("half")
        file.flush()
        raise KeyError
    assert (path.read_text(), others.read_text()) == ("before", "somebody's")
    with whole_file(str(path)) as file:
        file.write("after \ud800")
        assert path.read_text() == "before"
    assert path.read_text() == "after \\ud800"
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(tmp_path.iterdir()) == [path, others]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    link.symlink_to(real)
    with whole_file(str(link)) as file:
        file.write("x")
    assert link.is_symlink() and real.read_text() == "x"


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250 + ".csv")
    with whole_file(str(path)) as file:
        file.write("x")
    assert path.read_text() == "x"


@pytest.mark.parametrize("flag", ["--html", "--series"])
def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path, flag: str) -> None:
    pytest.importorskip("resource", reason="needs a limit on the size of files")
    path = tmp_path / "out.x"
    path.write_text("before")
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)); "
        "from vllm_kv_planner.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", limited, *FIVE, flag, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert f"{path}: cannot be written (File too large)" in done.stderr
    assert path.read_text() == "before"
    assert [*tmp_path.iterdir()] == [path]


def spellings(tmp_path: Path) -> list[str]:
    """Other names of ``trace.csv``."""
    (tmp_path / "link.csv").symlink_to(tmp_path / "trace.csv")
    os.link(tmp_path / "trace.csv", tmp_path / "hard.csv")
    (tmp_path / "sub").mkdir()
    names = ["trace.csv", "link.csv", "hard.csv", "sub/../trace.csv", "./trace.csv"]
    return [f"{tmp_path}/{name}" for name in names]


@pytest.mark.parametrize("flag", ["--html", "--series"])
def test_what_is_read_is_not_written(
    tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(TRACE)
    for name in spellings(tmp_path):
        code, out, err = run([*ENGINE, "--trace", str(trace), flag, name], capsys)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert flag in err and "also read" in err
        assert trace.read_text() == TRACE


def test_two_reports_are_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for one, other in (("a.x", "a.x"), ("a.x", "./a.x"), ("a.x", "A.X"), ("é.x", "é.x")):
        files = ["--series", str(tmp_path / one), "--html", f"{tmp_path}/{other}"]
        code, out, err = run([*FIVE, *files], capsys)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "the same file as --series's" in err
        assert [*tmp_path.iterdir()] == []
    (tmp_path / "a.x").write_text("")
    (tmp_path / "A.X").write_text("")
    if len(list(tmp_path.iterdir())) == 2:  # a file system that tells them apart, and they do
        files = ["--series", str(tmp_path / "a.x"), "--html", str(tmp_path / "A.X")]
        assert run([*FIVE, *files], capsys)[0] == 0


def test_a_model_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vllm_kv_planner.config.find import find_config

    config = tmp_path / "config.json"
    text = json.dumps(dict(find_config("gpt2").config))
    config.write_text(text)
    rest = FIVE[2:]
    pasted = ["--", "vllm", "serve", str(tmp_path), *FIVE[4:8]]
    for words in (
        [str(tmp_path), *rest, "--html", str(config)],
        [str(config), *rest, "--series", str(config)],
        [*FIVE[2:4], *FIVE[8:], "--series", str(config), *pasted],
    ):
        code, out, err = run(["workload", *words], capsys)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "also read" in err, err
        assert config.read_text() == text


def test_inputs_are_found_wherever_they_are_named(tmp_path: Path) -> None:
    there = tmp_path / "draft.json"
    there.write_text("{}")
    for inputs in (
        [str(there)],
        {"speculative_config": {"model": str(there)}},
        [f"--config={there}"],
        {"a": [{"b": (f"one,{there}",)}]},
        [there],
    ):
        with pytest.raises(InputError, match="also read"):
            check_apart({"--html": str(there)}, [inputs])
    check_apart({"--html": str(tmp_path / "new.html"), "--series": None}, [str(there), "", "\0"])


@pytest.mark.parametrize(
    "name", ["", ".", "sub/", "no/such/folder.x", "a\0b", "\ud800", "\x1b[31m/x", "pipe", "n" * 300]
)
def test_no_file_to_write_to(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe")
    before = sorted(tmp_path.iterdir())
    code, out, err = run([*FIVE, "--html", name], capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "\x1b" not in err
    assert sorted(tmp_path.iterdir()) == before
