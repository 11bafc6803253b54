"""``workload``, from the command line to every kind of output."""

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

from tests.vllm_python import CUDA
from vllm_kv_planner.cli import main

ROOT = Path(__file__).resolve().parent.parent

# 20 blocks of 16 tokens and the null block. A prompt of 49 tokens takes 4 blocks, and with 15 more
# it still does: exactly 5 requests fit, and none ever needs another block.
FIVE = [
    "workload",
    "gpt2",
    "--gpu",
    "L4",
    "--max-model-len",
    "128",
    "--num-gpu-blocks-override",
    "21",
    "--prompt-tokens",
    "49",
    "--output-tokens",
    "15",
    "--requests",
    "20",
]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def as_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    code, out, err = run([*arguments, "--format", "json"], capsys)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_five_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(FIVE, capsys)
    assert (code, err) == (0, "")
    first, second = out.splitlines()[:2]
    assert first == "5 of your requests run at once (max_num_seqs 256); limited by KV blocks."
    assert second.startswith("75 % of the requests wait")
    assert second.endswith("; 0 preemptions.")
    assert "KV blocks in use, of 20" in out
    assert "most 5" in out
    assert "\x1b" not in out


def test_json_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(FIVE, capsys)
    assert found["schema_version"] == 1
    assert found["workload"]["prompt_tokens"] == "49"  # type: ignore[index]
    assert found["plan"]["kv_cache"]["num_gpu_blocks"] == 21  # type: ignore[index]
    assert {name: found[name] for name in ("requests", "refused", "cut", "usable_blocks")} == {
        "requests": 20,
        "refused": 0,
        "cut": 0,
        "usable_blocks": 20,
    }
    assert (found["prompt_tokens"], found["output_tokens"]) == (980, 300)
    assert (found["waited"], found["preemptions"], found["scheduler"]) == (15, 0, "standalone")
    assert found["running"]["most"] == 5  # type: ignore[index]
    assert found["running_loaded"]["p5"] == 5  # type: ignore[index]
    assert found["used_blocks"]["most"] == 20  # type: ignore[index]
    assert set(found["limits"]) == {"kv_blocks"}  # type: ignore[call-overload]
    series = found["series"]
    assert isinstance(series, dict)
    assert list(series) == ["step", "used_blocks", "running", "waiting", "preemptions"]
    assert (series["step"][0], series["used_blocks"][0], series["waiting"][0]) == (0, 20, 15)


def test_fewer_seats_than_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json([*FIVE, "--max-num-seqs", "3"], capsys)
    assert found["running_loaded"]["most"] == 3  # type: ignore[index]
    assert set(found["limits"]) == {"max_num_seqs"}  # type: ignore[call-overload]


def test_a_closed_loop_of_four_never_waits(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run([*FIVE, "--concurrency", "4"], capsys)
    assert code == 0
    assert out.startswith("4 of your requests run at once (4 clients, max_num_seqs 256); none is")


def test_a_published_engine_ran_70_to_80_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Qwen2.5-7B on an A10G, 77,088 KV tokens: 70 to 80 requests of some 1,000 tokens, not 256."""
    found = as_json(
        [
            "workload",
            "Qwen/Qwen2.5-7B-Instruct",
            *("--gpu", "A10G", "--max-model-len", "8192", "--num-gpu-blocks-override", "4819"),
            *("--prompt-tokens", "1000", "--output-tokens", "100", "--requests", "600"),
        ],
        capsys,
    )
    assert found["usable_blocks"] == 77_088 // 16
    assert found["sustained"]["p5"] >= 70  # type: ignore[index]
    assert found["sustained"]["p95"] <= 80  # type: ignore[index]
    assert found["preemptions"] > 0  # type: ignore[operator]


def test_a_shared_prefix_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json([*FIVE, "--shared-prefix", "32", "--concurrency", "1"], capsys)
    # each finds the two whole blocks of the prefix, but the first
    assert found["cached_tokens"] == 19 * 32
    assert found["queried_tokens"] == 20 * 81
    assert found["prefix_hit_rate"] == 19 * 32 / (20 * 81)


def test_the_same_seed_is_the_same_run(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = [*FIVE, "--prompt-tokens", "1-100", "--rate", "0.1"]
    assert as_json(drawn, capsys) == as_json(drawn, capsys)
    other = as_json([*drawn, "--seed", "7"], capsys)
    assert as_json(drawn, capsys)["prompt_tokens"] != other["prompt_tokens"]


def test_prompts_that_are_too_long(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run([*FIVE, "--prompt-tokens", "128"], capsys)
    assert code == 0
    assert out.startswith("No request ran: no prompt leaves room")
    found = as_json([*FIVE, "--prompt-tokens", "choice:128,120"], capsys)
    assert found["refused"] + found["cut"] == 20  # type: ignore[operator]


def test_csv_is_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run([*FIVE, "--format", "csv"], capsys)
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["running_loaded.p50"], row["plan.kv_cache.num_gpu_blocks"]) == ("5", "21")
    assert list(json.loads(row["limits"])) == ["kv_blocks"]


def test_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run([*FIVE, "--format", "markdown"], capsys)
    assert "**5 of your requests run at once" in out
    assert "| KV blocks | 20 |" in out


def test_a_pasted_command(capsys: pytest.CaptureFixture[str]) -> None:
    ours = as_json(FIVE, capsys)
    flags = ["workload", *FIVE[FIVE.index("--prompt-tokens") :], "--gpu", "L4", "--format", "json"]
    engine = FIVE[FIVE.index("--max-model-len") : FIVE.index("--prompt-tokens")]
    command = ["vllm", "serve", "gpt2", *engine, "--port", "80"]
    code, out, _ = run([*flags, "--", *command], capsys)
    assert code == 0
    assert json.loads(out) == ours
    # flags of the schedule only, which no plan knows
    _, held, _ = run([*flags, "--", *command, "--watermark", "0.5"], capsys)
    assert json.loads(held)["running"]["most"] < 5
    assert as_json([*FIVE, "--watermark", "0.5"], capsys) == json.loads(held)


def test_a_trace_with_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,20,10,30,Conversation log\n"
        "5.05,ChatGPT,20,10,30,Conversation log\n"
        "6,ChatGPT,20,0,20,Conversation log\n"
        "9,ChatGPT,20,10,30,Conversation log\n"
    )
    engine = [*FIVE[: FIVE.index("--prompt-tokens")], "--trace", str(trace)]
    code, out, err = run(engine, capsys)
    assert (code, out) == (2, "")
    assert "--step-time" in err
    code, out, _ = run([*engine, "--step-time", "0.1"], capsys)
    assert code == 0
    assert "none is left waiting, and there are never more than 2." in out
    assert "Arrivals: as in the trace" in out
    assert "note: 1 left out: requests without an answer (failed ones)" in out
    code, out, err = run([*engine, "--arrivals", "all", "--trace-model", "GPT-5"], capsys)
    assert (code, out) == (2, "")
    assert "no requests in it; 4 left out: requests to other models" in err


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


def test_what_does_not_fit_is_planned_and_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    engine = ["workload", "Qwen/Qwen2.5-72B-Instruct", "--gpu", "A10G"]
    lengths = ["--prompt-tokens", "10", "--output-tokens", "10"]
    code, out, _ = run([*engine, *lengths], capsys)
    assert code == 1
    assert "no memory is available for the cache blocks" in out
    code, out, _ = run([*engine, *lengths, "--format", "json"], capsys)
    assert (code, json.loads(out)["fits"]) == (1, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["workload", "gpt2", "--gpu", "L4"], "--prompt-tokens and --output-tokens"),
        ([*FIVE, "--prompt-tokens", "many"], "lognormal:mean=1000"),
        ([*FIVE, "--trace", "x.csv"], "brings its own lengths"),
        ([*FIVE, "--rate", "x"], "--rate"),
        ([*FIVE, "--rate", "1", "--concurrency", "1"], "closed loop"),
        ([*FIVE, "--format", "yaml"], "--format"),
        ([*FIVE, "--watermark", "2"], "watermark"),
        ([*FIVE, "--scheduling-policy", "lifo"], "fcfs"),
        ([*FIVE, "--series", "/nonexistent/series.csv"], "folder is not there"),
        ([*FIVE, "--html", "/tmp"], "no file to write to"),
        ([*FIVE, "--gpu", "H1000"], "H100"),
        (["workload", *FIVE[2:]], "no model"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert said in err
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
    from vllm_kv_planner.cli.progress import progress_bar

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


@pytest.mark.skipif(not os.environ.get(CUDA), reason=f"needs vLLM: set {CUDA}")
def test_vllms_own_scheduler_says_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KV_PLANNER_PYTHON", os.environ[CUDA])
    ours = as_json(FIVE, capsys)
    theirs = as_json([*FIVE, "--planner", "vllm"], capsys)
    assert theirs["scheduler"] == "vllm"
    for name in ("steps", "running", "waiting", "used_blocks", "waited", "preemptions"):
        assert (name, theirs[name]) == (name, ours[name])


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--max-num-queued-reqs", "5"),
        ("--max-num-queued-tokens", "5000"),
        ("--prefix-cache-retention-interval", "16"),
        ("--scheduler-cls", "mine.Scheduler"),
    ],
)
def test_schedules_that_are_not_simulated(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run([*FIVE, flag, value], capsys)
    assert (code, out) == (2, "")
    assert f"{flag} " in err and "not simulated" in err
