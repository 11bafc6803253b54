"""How the tests of ``launch`` run it: a real program called vllm, in a folder of PATH."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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


def with_fake_vllm(tmp_path: Path) -> Path:
    """The folder, its ``bin`` with a program called vllm that records how it was started."""
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
