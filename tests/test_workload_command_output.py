"""``workload``: every kind of output, and where it is shown."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.workload_commands import FIVE, as_json, run

ROOT = Path(__file__).resolve().parent.parent


def test_csv_is_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run([*FIVE, "--format", "csv"], capsys)
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["running_loaded.p50"], row["plan.kv_cache.num_gpu_blocks"]) == ("5", "21")
    assert list(json.loads(row["limits"])) == ["kv_blocks"]


def test_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run([*FIVE, "--format", "markdown"], capsys)
    assert "**5 of your requests run at once" in out
    assert "| KV blocks | 20 |" in out


class Elements(HTMLParser):
    """Every element that begins, and whether all are closed in order."""

    VOID = ("meta", "br", "path", "line")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_has_a_chart_and_no_scripts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, page = tmp_path / "<script>&.csv", tmp_path / "page.html"
    trace.write_text("prompt_tokens,output_tokens\n49,15\n49,15\n")
    engine = FIVE[: FIVE.index("--prompt-tokens")]
    code, _, err = run([*engine, "--trace", str(trace), "--html", str(page)], capsys)
    assert (code, err) == (0, "")
    text = page.read_text(encoding="utf-8")
    assert "&lt;script&gt;&amp;.csv" in text
    elements = Elements()
    elements.feed(text)
    elements.close()
    assert elements.open == []
    assert elements.seen.count("svg") == 1
    assert elements.seen.count("path") == 3
    assert not {"script", "img", "link", "iframe"}.intersection(elements.seen)
    assert "http" not in text


def test_the_series_is_a_csv_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "series.csv"
    found = as_json([*FIVE, "--series", str(path)], capsys)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["used_blocks"]) for row in rows] == found["series"]["used_blocks"]  # type: ignore[index]
    assert rows[0]["block_use"] == "1.0000"


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    code, _, err = run([*FIVE, "--html", "/dev/full"], capsys)
    assert code == 2
    assert err.count("\n") == 1


def test_a_terminal_without_unicode(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vllm_kv_planner", *FIVE],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0
    text = done.stdout.decode("ascii")
    assert "100 % |#####" in text
    assert "?" not in text


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm_kv_planner.cli.output import progress_bar

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr("sys.stderr", Terminal())
    with progress_bar(5000, "requests") as progress:
        assert progress is not None
        for done in range(1, 5001):
            progress(done)
    shown = sys.stderr.getvalue()
    assert shown.startswith("\r1 of 5,000 requests")
    assert shown.endswith("\r")
    with progress_bar(5000, "requests", wanted=False) as progress:
        assert progress is None
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with progress_bar(5000, "requests") as progress:
        assert progress is None


def test_the_example_runs() -> None:
    done = subprocess.run(
        [sys.executable, "examples/workload_example.py", "--requests", "200"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    as_it_is, fp8, few = done.stdout.splitlines()
    assert "limited by KV blocks" in as_it_is
    assert fp8.startswith("with an fp8 KV cache: ")
    assert few.startswith("with at most 32 requests at once: 32 of your requests run at once")
