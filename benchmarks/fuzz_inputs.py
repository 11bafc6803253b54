#!/usr/bin/env python3
"""Spoilt files and servers: logs, records, traces, YAML, safetensors headers, answers of a hub.

python benchmarks/fuzz_inputs.py [--kind logs|stores|traces|yaml|headers|hub|behaviours]
                                 [--inputs 2000] [--seed N] [--first N]

Each input is a good one spoilt in some ways (``fuzz_makers.py``) or a hub's way to behave
(``hub_behaviours.py``), fed to the commands that read it, and held against what is promised: an
answer, or exit code 2 with one printable line on stderr and nothing on stdout; what ``calibrate``
wrote is read again; within a bounded number of calls, reads and bytes of memory; no traceback, no
secret; no other file written. The same for the same seed. Exit code 1: a finding.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fuzz_configs import TooMuchWork, counted
from benchmarks.fuzz_makers import (
    Make,
    answer,
    header,
    hub_files,
    log,
    store,
    trace,
    with_config,
    yaml,
)
from benchmarks.hub_behaviours import TOKEN, behaviour, slow_reads, too_much
from tests.hub_server import running_raw_server
from tests.start_logs import LLAMA
from vllm_kv_planner.cli import main as command_line
from vllm_kv_planner.cli.output import DEBUG

CALLS = 30_000_000
"""Calls one answer may take: a sweep of a spoilt grid plans some thousand set-ups."""
MEMORY = 1 << 30
"""Bytes this process may have held at most, all inputs together."""
MARKERS = (TOKEN, "sk-aMarkerThatMustNotAppear")

Commands = list[list[str]]
"""Run one after the other; where the first answers, so must the others."""


def log_commands(file: Path, chance: random.Random) -> Commands:
    """``explain``; or ``calibrate``, and a plan by what it wrote."""
    flags = chance.choice(([], [], ["--gpu", "H100"], ["--gpu", "L4"]))
    if chance.random() < 0.6:
        return [["explain", str(file), *flags]]
    kept = ["--calibration", str(file.parent / "kept.json")]
    plan = ["plan", LLAMA, "--gpu", "H100", "--vllm-version", "0.19.0", *kept]
    return [["calibrate", str(file), *flags, *kept], plan, ["calibrate", str(file), *flags, *kept]]


def store_commands(file: Path, _: random.Random) -> Commands:
    """A plan by these records."""
    by = ["--calibration", str(file), "--vllm-version", "0.19.0"]
    return [["plan", LLAMA, "--gpu", "H100", *by]]


def trace_commands(file: Path, _: random.Random) -> Commands:
    """A short replay."""
    run = ["workload", "gpt2", "--trace", str(file), "--limit", "20", "--no-progress"]
    return [[*run, "--kv-cache-memory-bytes", "1G", "--step-time", "0.05"]]


def yaml_commands(file: Path, chance: random.Random) -> Commands:
    """Either of the commands that read YAML."""
    if chance.random() < 0.5:
        return [["sweep", "--file", str(file), "--workers", "1", "--no-progress"]]
    return [["plan", "--", "vllm", "serve", "gpt2", "--config", str(file)]]


def model_commands(file: Path, chance: random.Random) -> Commands:
    """The checkpoint's headers, for a model whose weights a rule knows, or none."""
    with_config(file.parent, file.name, chance)
    return [["plan", str(file.parent), "--gpu", "L4"]]


def hub_commands(_: Path, chance: random.Random) -> Commands:
    """A model on the Hub, its weights wanted or not."""
    given = chance.choice((["--gpu", "L4"], ["--kv-cache-memory-bytes", "1G"]))
    return [["plan", "org/m", "--planner", "standalone", *given]]


KINDS: dict[str, tuple[Make, str, Callable[[Path, random.Random], Commands]]] = {
    "logs": (log, "vllm.log", log_commands),
    "stores": (store, "records.json", store_commands),
    "traces": (trace, "trace", trace_commands),
    "yaml": (yaml, "a.yaml", yaml_commands),
    "headers": (header, "model.safetensors", model_commands),
    "hub": (answer, "answer", hub_commands),
    "behaviours": (lambda _: b"", "answer", hub_commands),
}
"""By kind: what makes an input, the name of its file, the command lines that read it."""
WRITTEN = frozenset({"kept.json", "kept.json.lock", "hub"})
"""By ``calibrate``, as it is asked to; the Hub's answers are kept."""


def broken_promise(arguments: list[str], *, must_answer: bool = False) -> str | None:
    """What is wrong with how one command line ends, in a line; None: nothing."""
    return ending(arguments, must_answer=must_answer)[1]


def ending(arguments: list[str], *, must_answer: bool = False) -> tuple[object, str | None]:
    """The exit code of one command line, and what is wrong with how it ends."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = counted(lambda: command_line(arguments), CALLS)[0]
    except SystemExit as stopped:
        code = stopped.code
    except TooMuchWork as error:
        return None, str(error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {str(error)[:100]} ({last.filename}:{last.lineno})"
        return None, said
    if must_answer and code == 2:
        return code, f"{arguments[0]} refuses what was written: {err.getvalue()[:200]!r}"
    return code, wrong_ending(code, out.getvalue(), err.getvalue())


def wrong_ending(code: object, out: str, err: str) -> str | None:
    """What an exit code, stdout and stderr break of the promise."""
    if any(marker in text for marker in MARKERS for text in (out, err)):
        return "a secret is shown"
    odd = next((char for char in out if not char.isprintable() and char != "\n"), None)
    if odd is not None:
        return f"prints {odd!r}"
    if code in (0, 1):
        return None if out else f"exit code {code} without an answer"
    if code != 2 or out:
        return f"exit code {code}, and {len(out)} characters on stdout"
    if err.count("\n") != 1 or not err[:-1].isprintable() or len(err) > 3000:
        return f"no single line on stderr: {err[:200]!r}"
    return None


def findings(
    kind: str, inputs: int, seed: int, first: int = 0
) -> Iterator[tuple[int, str, object]]:
    """Number, broken promise and input, of each input of a kind that has one."""
    make, name, commands = KINDS[kind]
    for number in range(first, first + inputs):
        chance = random.Random(f"{kind} {seed} {number}")
        raw = make(chance)
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            file = Path(folder) / name
            file.write_bytes(raw)
            lines = commands(file, chance)
            before = {*os.listdir(folder), *WRITTEN}
            environment = {"HF_HOME": folder, "XDG_CONFIG_HOME": folder, "HF_HUB_OFFLINE": "1"}
            server = clock = None
            if kind in ("hub", "behaviours"):
                pieces = [raw] if kind == "hub" else behaviour(hub_files(chance), chance)
                server = stack.enter_context(running_raw_server(pieces))
                clock = stack.enter_context(slow_reads(chance))
                environment |= {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": server.url, "HF_TOKEN": TOKEN}
            stack.enter_context(set_to(environment))
            wrong = run(lines)
            if wrong is None and server is not None and clock is not None:
                wrong = too_much(clock, server)
            if wrong is None and not before.issuperset(os.listdir(folder)):
                wrong = f"wrote {sorted(os.listdir(folder))}"
        wrong = wrong or too_large()
        if wrong is not None:
            yield number, wrong, raw or (server.requests if server else lines[0])


def run(lines: Commands) -> str | None:
    """What is wrong with how command lines end, each run where those before it answered."""
    code: object = 0
    for number, line in enumerate(lines):
        code, wrong = ending(line, must_answer=number > 0)
        if wrong is not None or code != 0:
            return wrong
    return None


def too_large() -> str | None:
    """Whether this process has ever held too much; None: not, or the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    most *= 1 if sys.platform == "darwin" else 1024
    return f"{most >> 20} MiB of memory" if most > MEMORY else None


@contextlib.contextmanager
def set_to(environment: dict[str, str]) -> Iterator[None]:
    """These environment variables, for a while."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def main() -> int:
    """Read the flags, run, print what was found."""
    parser = argparse.ArgumentParser(description="Spoil inputs; see who minds.")
    parser.add_argument("--kind", choices=KINDS, help="all of them where none is named")
    parser.add_argument("--inputs", type=int, default=2000, help="of each kind; a tenth for hubs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    given = parser.parse_args()
    os.environ[DEBUG] = "1"
    found = 0
    for kind in [given.kind] if given.kind else KINDS:
        is_hub = kind in ("hub", "behaviours")
        inputs = given.inputs // 10 if is_hub and not given.kind else given.inputs
        for number, wrong, raw in findings(kind, inputs, given.seed, given.first):
            found += 1
            print(f"{kind} {number}: {wrong}\n    {str(raw)[:300]}", flush=True)
        print(
            f"{kind}: {inputs:,} inputs of seed {given.seed}, {found} findings so far", flush=True
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
