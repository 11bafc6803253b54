"""Other systems than Linux: what they lack is missed by ``launch`` and ``--planner vllm`` only,
which say so.

Their Python is stood in for by one that cannot import what POSIX alone has, and whose ``os`` and
``signal`` have lost what Windows or macOS do not know.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.sweep_runs import MEMORY
from tests.workload_commands import FIVE
from vllm_kv_planner.errors import InputError
from vllm_kv_planner.files.written import locked, try_lock

WITHOUT = """
import os, signal, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ImportError(name)
ABSENT = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "crypt"}
for name in ABSENT:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Absent())
for name in ("sched_getaffinity", "fork", "forkpty", "getuid", "geteuid", "killpg", "setsid",
             "mkfifo", "O_NONBLOCK", "uname", "posix_fadvise", "sysconf", "getpgid"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGXFSZ", "SIGPIPE", "SIGHUP", "SIGALRM", "SIGUSR1"):
    if hasattr(signal, name):
        delattr(signal, name)
from vllm_kv_planner.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def log(tmp_path: Path) -> str:
    from tests.start_logs import V019

    path = tmp_path / "start.log"
    path.write_text(V019, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "gpt2", "--gpu", "L4"],
        ["fit", "gpt2", "--gpu", "L4", "--context", "1024"],
        ["compare", "gpt2", "Qwen/Qwen3-8B", "--gpu", "L4"],
        ["paging", "gpt2", "--gpu", "L4"],
        [*FIVE, "--html", "page.html", "--series", "series.csv"],
        ["sweep", "gpt2", *MEMORY, "--grid", "tp=1,2"],
        ["sweep", "gpt2", *MEMORY, "--output", "rows.csv", "--workers", "1"],
        ["explain", "LOG", "--gpu", "H100"],
        ["calibrate", "LOG", "--gpu", "H100", "--calibration", "c.json"],
        ["launch", "--dry-run", "--gpu", "L4", "--", "vllm", "serve", "gpt2"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_python_without_what_posix_alone_has(
    arguments: list[str], log: str, tmp_path: Path
) -> None:
    words = [log if word == "LOG" else word for word in arguments]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if "--output" in words:  # and once more, where the file is there
        again = subprocess.run(
            [sys.executable, "-c", WITHOUT, *words, "--resume"], cwd=tmp_path, check=False
        )
        assert again.returncode == 0


@pytest.mark.parametrize("command", ["plan", "workload"])
def test_vllm_is_not_asked_where_it_does_not_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KV_PLANNER_PYTHON", sys.executable)
    words = {"plan": ["plan", "gpt2", "--gpu", "L4"], "workload": list(FIVE)}[command]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words, "--planner", "vllm"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "vLLM runs on Linux and macOS only" in done.stderr


def test_a_lock_as_windows_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte far behind the rows, which is free again once the file is closed."""
    held: set[int] = set()

    def locking(descriptor: int, mode: int, count: int) -> None:
        at = os.lseek(descriptor, 0, os.SEEK_CUR)
        assert (mode, count, at) == (2, 1, 0x7FFFFFF0)
        inode = os.fstat(descriptor).st_ino
        if inode in held:
            raise OSError(36, "Resource deadlock avoided")
        held.add(inode)

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n")
    with path.open("r+b") as one, path.open("r+b") as other:
        one.read(2)
        assert try_lock(one.fileno())
        assert not try_lock(other.fileno())
        assert (one.read(), path.read_text()) == (b"b\n", "a,b\n")
    with pytest.raises(InputError, match="another process"), locked(str(tmp_path / "store")):
        held.add((tmp_path / "store.lock").stat().st_ino)
        with locked(str(tmp_path / "store"), seconds=0):
            pass
    monkeypatch.setitem(sys.modules, "msvcrt", None)  # and a system that has neither
    with path.open("r+b") as one, path.open("r+b") as other:
        assert try_lock(one.fileno()) and try_lock(other.fileno())
