"""Printing: what configs hold is escaped; full disks, closed pipes and ASCII are no accidents."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vllm_kv_planner import plan as plan_of
from vllm_kv_planner.cli.output import DEBUG, printing, rendered
from vllm_kv_planner.planning.document import Plans
from vllm_kv_planner.records import replace

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = f"{sys.executable} {ROOT / 'examples' / 'kv_cache_memory_estimator.py'}"
COMMANDS = {
    "plan": f"{sys.executable} -m vllm_kv_planner plan gpt2 --kv-cache-memory-bytes 1G",
    "example": f"{EXAMPLE} --model gpt2 --seq-len 1024",
}


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        timeout=60,
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("where", [">/dev/full", ">&-"])
def test_output_that_cannot_be_written(command: str, where: str) -> None:
    if "full" in where and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    done = shell(f"{COMMANDS[command]} {where}")
    assert done.returncode == 2
    assert "error: cannot print" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [*COMMANDS.values(), COMMANDS["plan"] + " --help"])
def test_a_reader_that_leaves(command: str) -> None:
    assert shell(f"{command} | true").stderr == ""


@pytest.mark.parametrize("arguments", ["--help", "plan --help", "explain --help", "plan é"])
def test_ascii_terminals(arguments: str) -> None:
    line = f"{sys.executable} -m vllm_kv_planner {arguments}"
    done = shell(line, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert "Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()
    assert len(done.stderr.splitlines()) == (1 if "é" in arguments else 0)


def test_the_examples_complaints_are_one_line() -> None:
    done = shell(f"{EXAMPLE} --model gpt2 --seq-len 1k")
    assert done.returncode == 2
    assert done.stderr == "error: argument --seq-len: invalid int value: '1k'\n"


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "json"])
def test_control_characters_do_not_reach_the_terminal(form: str) -> None:
    plan = plan_of("gpt2", kv_cache_memory_bytes=1 << 30)
    hostile = "a\x1b[31m\x07b\x9b"
    plan = replace(
        plan,
        model=replace(plan.model, id=hostile, architecture=hostile),
        engine=replace(plan.engine, dtype=hostile),
        notes=(hostile,),
    )
    assert rendered(Plans((plan,)), form).replace("\n", "").isprintable()


def test_a_memory_without_a_name_says_what_is_assumed() -> None:
    done = shell(f"{COMMANDS['plan']} --gpu-memory 24GiB")
    assert "note: no GPU named: one like an H100" in done.stdout


def test_what_nobody_foresaw_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> int:
        return len({}["\x1b[31m\n"])

    with pytest.raises(KeyError):
        printing(broken)
    monkeypatch.delenv(DEBUG)
    assert printing(broken, "x: ") == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and err[:-1].isprintable()
    assert err.startswith("x: error: a fault of the planner, please report it")
