"""``launch``: the command itself is started, with its signals and its exit code; or it is not."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.launches import (
    FITS,
    LLAMA,
    TOO_MUCH,
    command,
    environment,
    launch,
    record,
    with_fake_vllm,
)
from vllm_kv_planner.capacity.launch import plan_launch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_fake_vllm(tmp_path)


def test_the_command_is_started_as_it_stands(folder: Path) -> None:
    odd = [
        "--served-model-name",
        "a b",
        "--chat-template={% x %}",
        "--port",
        "8000",
        "--api-key",
        "",
    ]
    done = launch(folder, "--", "VLLM_X=1 2", "OTHER=", *FITS, *odd, CODE="37")
    assert done.returncode == 37, done.stderr
    found = record(folder)
    assert found["argv"] == [*FITS[1:], *odd]
    env = found["env"]
    assert isinstance(env, dict)
    assert (env["VLLM_X"], env["OTHER"], env["CODE"]) == ("1 2", "", "37")
    assert done.stdout == "from vllm\n"
    assert "GPU blocks" in done.stderr and "1,820" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("$ VLLM_X='1 2' OTHER='' vllm serve gpt2 --kv")


def test_one_quoted_text_is_a_command_too(folder: Path) -> None:
    text = "VLLM_X=1 vllm serve gpt2 \\\n  --kv-cache-memory-bytes 1G --served-model-name 'a b'"
    done = launch(folder, "--", text)
    assert done.returncode == 0, done.stderr
    assert record(folder)["argv"] == [*FITS[1:], "--served-model-name", "a b"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_command(folder: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        command("--", *FITS),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(folder, WAIT="1"),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "from vllm\n"
    assert process.stdout.readline() == "waiting\n"
    assert record(folder)["pid"] == process.pid  # no process in between
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (40 + number, f"signal {int(number)}\n")


def test_death_by_a_signal_is_seen_as_such(folder: Path) -> None:
    process = subprocess.Popen(
        command("--", *FITS),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(folder, WAIT="1"),
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL


def test_signals_that_python_ignores_are_not_ignored_by_the_command(folder: Path) -> None:
    program = folder / "bin" / "vllm"
    program.write_text("#!/bin/sh\ngrep SigIgn /proc/self/status\n")
    done = launch(folder, "--", *FITS)
    plain = subprocess.run(
        [str(program)], capture_output=True, text=True, check=True, restore_signals=True
    )
    assert done.stdout == plain.stdout != ""


def test_what_does_not_fit_is_not_started(folder: Path) -> None:
    done = launch(folder, "--gpu", "H100", "--yes", "--", *TOO_MUCH)
    assert (done.returncode, done.stdout) == (1, "")
    assert not (folder / "record").exists()
    assert "not started: does not fit" in done.stderr
    # 17 blocks of 589,824 bytes in 10 MiB, one held back: 16 x 16 tokens
    assert "estimated maximum model length is 256" in done.stderr
    assert "the smallest change that fits: " in done.stderr


def test_the_change_that_is_named_makes_it_fit(folder: Path) -> None:
    refused = launch(folder, "--gpu", "A10G", "--", *LLAMA)
    assert refused.returncode == 1
    (line,) = (each for each in refused.stderr.splitlines() if "smallest change" in each)
    change = line.split("that fits: ")[1].split(" (")[0].split()
    if change[0] == "--gpu":
        again = launch(folder, *change, "--", *LLAMA)
    else:
        again = launch(folder, "--gpu", "A10G", "--", *LLAMA, *change)
    assert again.returncode == 0, again.stderr
    assert record(folder)["argv"]


def test_a_dry_run_starts_nothing(folder: Path) -> None:
    done = launch(folder, "--dry-run", "--", "HF_TOKEN=hf_x", "B=c d", *FITS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"$ HF_TOKEN=… B='c d' {' '.join(FITS)}"
    assert "hf_x" not in done.stdout
    assert launch(folder, "--dry-run", "--", *TOO_MUCH).returncode == 1
    assert not (folder / "record").exists()


def borderline() -> list[str]:
    """A command that fits only if the prediction is exact; the longest length that does."""
    longest = plan_launch(LLAMA, gpu="A10G").plan.kv_cache.max_model_len_that_fits
    return [*LLAMA, "--max-model-len", str(longest)]


def test_borderline_needs_a_yes(folder: Path) -> None:
    words = borderline()
    assert plan_launch(words, gpu="A10G").verdict == "borderline"
    done = launch(folder, "--gpu", "A10G", "--", *words)
    assert done.returncode == 1
    assert "not started: borderline; --yes starts it" in done.stderr
    assert not (folder / "record").exists()
    assert launch(folder, "--gpu", "A10G", "--yes", "--", *words).returncode == 0
    assert record(folder)["argv"] == words[1:]


@pytest.mark.parametrize(("answer", "starts"), [(b"y\n", True), (b"\n", False), (b"\x04", False)])
def test_borderline_asks_on_a_terminal(folder: Path, answer: bytes, starts: bool) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("--gpu", "A10G", "--", *borderline()),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(folder),
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 60
    while b"[y/N]" not in shown:
        assert time.monotonic() < deadline, shown
        shown += os.read(ours, 4096)
    os.write(ours, answer)
    assert process.wait(30) == (0 if starts else 1)
    os.close(ours)
    assert (folder / "record").exists() == starts


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "behind --"),
        (["vllm", "serve", "gpt2"], "behind --"),
        (["--"], "behind --"),
        (["--", "A=1"], "no command"),
        (["--", "nonesuch", "serve", "gpt2"], "not a program on PATH"),
        (["--", "./nonesuch", "serve", "gpt2"], "no such program"),
        (["--", "vllm", "bench", "gpt2"], "not a server"),
        (["--", *FITS, ">", "log"], "for a shell"),
        (["--", "vllm serve gpt2 2>&1 | tee log"], "for a shell"),
        (["--", *FITS, "--max-model-len", "1x"], "max-model-len"),
        (["--gpu", "H1000", "--", *FITS], "unknown GPU"),
        (["--max-model-len", "8K", "--", *FITS], "--max-model-len"),
        (["--planner", "me", "--", *FITS], "--planner"),
    ],
)
def test_wrong_input_is_one_line(folder: Path, arguments: list[str], said: str) -> None:
    done = launch(folder, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert said in done.stderr
    assert not (folder / "record").exists()


def test_a_program_that_cannot_be_executed(folder: Path) -> None:
    (folder / "bin" / "vllm").write_text("#!/nonesuch/python\n")
    done = launch(folder, "--", *FITS)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("cannot be started: No such file or directory")


def test_a_closed_stderr_does_not_spoil_stdout(folder: Path) -> None:
    line = " ".join([*command("--", *FITS), "2>&-"])
    done = subprocess.run(
        ["sh", "-c", line], stdout=subprocess.PIPE, text=True, env=environment(folder), check=False
    )
    assert (done.returncode, done.stdout) == (0, "from vllm\n")
