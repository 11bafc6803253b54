"""``launch``: the plan first, then the command itself, with its signals and its exit code."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vllm_kv_planner import InputError
from vllm_kv_planner.capacity.launch.command import read_command
from vllm_kv_planner.capacity.launch.installed import installed_version
from vllm_kv_planner.capacity.launch.launch import plan_launch
from vllm_kv_planner.cli import main

FITS = ["vllm", "serve", "gpt2", "--kv-cache-memory-bytes", "1G"]
TOO_MUCH = ["vllm", "serve", "gpt2", "--kv-cache-memory-bytes", "10M"]
# 14.96 GiB of weights on 22.03 GiB: what is left holds the length at the likely end only
LLAMA = ["vllm", "serve", "meta-llama/Llama-3.1-8B-Instruct"]

FAKE = f"""#!{sys.executable} -S
import json, os, signal, sys, time
with open(os.environ["RECORD"], "w") as file:
    json.dump({{"argv": sys.argv[1:], "env": dict(os.environ), "pid": os.getpid()}}, file)
print("from vllm")
if os.environ.get("WAIT"):
    def leave(number, frame):
        print("signal", number, flush=True)
        sys.exit(40 + number)
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    print("waiting", flush=True)
    time.sleep(60)
sys.exit(int(os.environ.get("CODE", "0")))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for PATH, with a program called vllm that records how it was started."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "vllm"
    program.write_text(FAKE)
    program.chmod(0o755)
    return tmp_path


def environment(folder: Path, **more: str) -> dict[str, str]:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "RECORD": str(folder / "record"), **more}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "vllm_kv_planner", "launch", *arguments]


def launch(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=environment(folder, **more),
        check=False,
    )


def record(folder: Path) -> dict[str, object]:
    read: dict[str, object] = json.loads((folder / "record").read_text())
    return read


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


def test_the_environment_counts(folder: Path) -> None:
    asked = [*FITS, "--max-model-len", "4096"]
    assert "1024" in launch(folder, "--", *asked).stderr
    allowed = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
    assert launch(folder, "--", f"{allowed}=1", *asked).returncode == 0
    assert launch(folder, "--", "env", f"{allowed}=1", *asked).returncode == 0
    assert launch(folder, "--", *asked, **{allowed: "1"}).returncode == 0
    # a container does not see the variables of the shell that starts it
    image = ["docker", "run", "vllm/vllm-openai", "--model", "gpt2", *asked[3:]]
    contained = launch(folder, "--dry-run", "--", *image, **{allowed: "1"})
    assert (contained.returncode, contained.stdout) == (2, "")


def test_the_version_beside_the_program_is_planned(folder: Path) -> None:
    packages = folder / "lib" / "python3.11" / "site-packages"
    (packages / "vllm_kv_planner-0.1.0.dist-info").mkdir(parents=True)
    program = str(folder / "bin" / "vllm")
    assert installed_version(program) is None
    (packages / "vllm-0.15.1.dist-info").mkdir()
    assert installed_version(program) == "0.15.1"
    done = launch(folder, "--dry-run", "--gpu", "H100", "--", program, *LLAMA[1:])
    assert "rules of vLLM 0.15" in done.stdout
    named = ["--vllm-version", "0.19", "--gpu", "H100"]
    done = launch(folder, "--dry-run", *named, "--", program, *LLAMA[1:])
    assert "rules of vLLM 0.19" in done.stdout
    (packages / "vllm-0.15.1.dist-info").rename(packages / "vllm-9.9.dist-info")
    done = launch(folder, "--dry-run", "--gpu", "H100", "--", program, *LLAMA[1:])
    assert "vLLM 9.9 is installed" in done.stdout and "rules of vLLM 0.33" in done.stdout


def test_without_a_gpu_the_plan_says_which_it_took(folder: Path) -> None:
    done = launch(folder, "--dry-run", "--", *FITS)
    assert "note: no GPU " in done.stdout


def test_from_python() -> None:
    launched = plan_launch("A=b vllm serve gpt2 --kv-cache-memory-bytes 10M", gpu="H100")
    assert launched.verdict == "does not fit"
    assert launched.command.words == tuple(TOO_MUCH)
    assert launched.command.variables == {"A": "b"}
    change = launched.smallest_change()
    assert change is not None and change.fits
    assert "A" not in os.environ
    with pytest.raises(InputError, match="not a program"):
        plan_launch(["nonesuch-program", *FITS], gpu="H100").start()
    with pytest.raises(InputError, match="NUL"):
        read_command(["vllm", "a\0b"])


def test_nothing_is_left_in_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    assert main(["launch", "--dry-run", "--", "LAUNCH_LEFT=1", *FITS]) == 0
    assert dict(os.environ) == before
