"""Random command lines for every command: what must hold of any line, whatever it says.

    python benchmarks/fuzz_flags.py --inputs 20000 --seed 1

No exception gets out; the exit code is 0, 1 or 2; with 2 there is one printable line on stderr
and nothing on stdout. Lines that break this are printed, and the exit code is 1. Lines are run in
this process, offline, in a folder of their own; nothing is started.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from unittest import mock

from vllm_kv_planner.cli import COMMANDS, main
from vllm_kv_planner.cli.output import DEBUG
from vllm_kv_planner.engine_args import flag_table
from vllm_kv_planner.engine_args.flag_table import Flag, all_flags
from vllm_kv_planner.files.json_file import read_json

MODELS = ("gpt2", "Qwen/Qwen3-0.6B", "google/gemma-3-1b-it", "openai/gpt-oss-20b", "", "no/such")
VALUES = (
    "", " ", "--", "-", "-1", "0", "1", "2", "7", "8k", "8K", "1.5K", "25.6k", "0.5", "1.5", "nan",
    "inf", "-inf", "1e9", "1e400", "9" * 30, "9" * 5000, "0x10", "1_000", "true", "False", "None",
    "null", "auto", "fp8", "bfloat16", "L4", "H100", "L4,H100", "{}", "[]", "[1, 2]", '{"a": 1}',
    '{"mode": 3}', '{"method": "ngram", "num_speculative_tokens": 3}', '{"x": {"y": [1]}}', "{",
    "[" * 3000, "{{ .Values.x }}", "$X", "$(x)", "<x>", "x" * 300, "é", "日本", "\u202e",
    "\x1b[31m", "a\nb", "\ud800", "１２", "c.yaml", "/dev/null", "a=b", "=", "a,b", ",", "1,2,4",
    "24GiB", "24", "80GB", "1M", "=5", "%s", "{0}",
    "../..", "\\", "'", '"', "gpt2", "image=2", "0.19.0", "1-500",
    "100x512@8K", "normal:mean=10,std=2", "json", "csv",
)  # fmt: skip
JSON: tuple[object, ...] = (
    None, True, False, 0, 1, -1, 3, 0.5, 10**9, 10**30, "", "x", "3", "ngram", "eagle3", "FULL",
    "gpt2", "kv_both", "NixlConnector", "LMCacheConnectorV1", "MultiConnector", "fp8", [], [1, 2],
    [1, "x"], {}, {"x": 1}, {"connectors": [{}]}, [[1]], "\x1b[31m", "\n",
)  # fmt: skip
NEVER = (
    "--planner",
    "--ray",
    "--workers",
    "--tokenizer",
    "--help",
    "-h",
    "--trace",
    "--gpu-counts",
)
"""Flags that start processes, load libraries, or read what the machine has."""
OWN = (
    "--gpu", "--gpu-memory", "--free-memory", "--other-processes", "--vllm-version", "--format",
    "--calibration", "--no-calibration", "--custom", "--layers", "--kv-heads", "--head-dim",
    "--context", "--concurrency", "--scenario", "--length", "--prompt-tokens", "--output-tokens",
    "--requests", "--rate", "--arrivals", "--grid", "--max-gpus", "--price", "--variant", "--top",
    "--question", "--seed", "--step-time", "--custom-model", "--config", "--users", "--zzz",
    "--swap-space", "--task", "--rope-scaling", "-O", "-O3", "-tp2", "-cc.mode", "--x.y", "--x.y+",
)  # fmt: skip
STARTS = {
    "plan": ["gpt2"],
    "fit": ["gpt2", "--gpu", "L4", "--max-gpus", "1", "--top", "1"],
    "compare": ["gpt2", "--length", "1K"],
    "paging": ["gpt2", "--gpu", "L4"],
    "workload": ["gpt2", "--gpu", "L4", "--prompt-tokens", "9", "--output-tokens", "3",
                 "--requests", "2"],
    "sweep": ["gpt2", "--gpu", "L4", "--workers", "1"],
    "launch": ["--dry-run", "--gpu", "L4", "--", "vllm", "serve", "gpt2"],
    "explain": ["no.log"],
    "calibrate": ["no.log"],
}  # fmt: skip
PASTED = (
    ["--", "vllm", "serve", "gpt2"],
    ["--", "python", "-m", "vllm.entrypoints.openai.api_server", "--model", "gpt2"],
    ["--", "docker", "run", "--rm", "vllm/vllm-openai:v0.19.0", "--model", "gpt2"],
    ["--", "sh", "-c", "vllm serve gpt2"],
    ["--", "args: [--model, gpt2]"],
)


def lines(rng: random.Random) -> Iterator[list[str]]:
    """Command lines without end; plans mostly, for they take every flag."""
    flags = [name for flag in all_flags() for name in (*flag.spellings, *flag.turn_off)]
    flags = [name for name in (*flags, *OWN * 3) if name not in NEVER]
    names = [name for name in COMMANDS if name in STARTS]
    while True:
        command = rng.choice(names) if rng.random() < 0.4 else "plan"
        line = [command, *STARTS[command]]
        if command in ("plan", "paging", "fit") and rng.random() < 0.3:
            line = [command, "--gpu", "L4", *rng.choice(PASTED)]
        elif command == "plan" and rng.random() < 0.2:
            line = [command, rng.choice(MODELS)]
        for _ in range(rng.randint(0, 4)):
            _add(line, rng, flags)
        yield line


def _fitting(flag: Flag, rng: random.Random) -> list[str]:
    """A flag with a value of its kind, which may be taken."""
    spelling = rng.choice((*flag.spellings, *flag.turn_off))
    if flag.takes in ("switch", "set"):
        return [spelling]
    number = str(rng.choice((0, 1, 2, 3, 8, 16, 100, 1000, 4096, 10**6, 10**9, 2**31, 2**62)))
    value = {
        "int": number,
        "quantity": number,
        "quantity_or_auto": rng.choice((number, "auto")),
        "float": rng.choice((number, "0.1", "0.9", "1e-9", "1e30")),
        "config": json.dumps(_object(flag, rng)),
        "json": json.dumps(_object(flag, rng)),
        "json_value": "{}",
        "json_or_text": json.dumps({rng.choice(("num_hidden_layers", "x")): rng.choice(JSON)}),
    }.get(flag.type, rng.choice(VALUES))
    return [spelling, str(rng.choice(flag.choices)) if flag.choices else value]


def _object(flag: Flag, rng: random.Random) -> dict[str, object]:
    """Some keys of the flag's own, with values of any kind."""
    classes = read_json(flag_table.__file__, "config_keys.json")["classes"]
    keys = list(classes.get(flag.keys, ("image", "video", "x")))
    return {rng.choice(keys): rng.choice(JSON) for _ in range(rng.randint(0, 3))}


def _add(line: list[str], rng: random.Random, flags: list[str]) -> None:
    """One more flag, spelt in some way, behind what must stay as it is."""
    known = rng.choice(all_flags())
    if rng.random() < 0.6 and known.spellings[0] not in NEVER:
        line += _fitting(known, rng)
        return
    flag, value = rng.choice(flags), rng.choice(VALUES)
    spelling = rng.random()
    if spelling < 0.1:
        flag = flag.replace("-", "_").replace("__", "--", 1)
    elif spelling < 0.15:
        flag = flag[: rng.randint(2, len(flag))]
    elif spelling < 0.2:
        at = rng.randint(2, len(flag))
        flag = flag[:at] + rng.choice("aé-.=\x00+ _") + flag[at:]
    elif spelling < 0.25:
        flag = f"{flag}.{rng.choice(('a', 'mode', 'a.b', '', 'method', 'x+'))}"
    words = rng.choice(([flag, value], [f"{flag}={value}"], [flag], [value], [flag, value, flag]))
    line += words if rng.random() < 0.8 else [*words, *words]


def finding(line: list[str]) -> str:
    """What is wrong with the answer to a line; empty where nothing is."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(line)
    except SystemExit as left:  # argparse's help
        return "" if left.code == 0 else f"leaves with {left.code!r}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {error}"[:300]
    return _fault(code, out.getvalue(), err.getvalue())


def _fault(code: int, shown: str, said: str) -> str:
    """What is wrong with an exit code, standard output and standard error."""
    if code not in (0, 1, 2):
        return f"exit code {code!r}"
    if "Traceback" in said + shown:
        return "a traceback"
    if not all(character.isprintable() or character == "\n" for character in said):
        return f"stderr is not printable: {said[:200]!r}"
    if code == 2 and shown:
        return f"exit code 2, and on stdout {shown[:100]!r}"
    if code == 2 and (said.count("\n") != 1 or not said.strip()):
        return f"exit code 2 with other than one line on stderr: {said[:200]!r}"
    return ""


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """A folder and an environment of their own, nothing on standard input, no network."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        settings = {"HF_HUB_OFFLINE": "1", "HF_HOME": folder, "XDG_CONFIG_HOME": folder, DEBUG: "1"}
        with mock.patch.dict(os.environ, settings), mock.patch("sys.stdin", io.StringIO()):
            os.chdir(folder)
            try:
                with open("c.yaml", "w", encoding="utf-8") as file:
                    file.write("max-model-len: 512\nenable-prefix-caching: false\n")
                yield
            finally:
                os.chdir(before)


def run(inputs: int, seed: int) -> list[tuple[list[str], str]]:
    """The lines that break a promise, each with what is wrong."""
    found: list[tuple[list[str], str]] = []
    slowest = 0.0
    with apart():
        for _, line in zip(range(inputs), lines(random.Random(seed)), strict=False):
            begun = time.perf_counter()
            wrong = finding(line)
            took = time.perf_counter() - begun
            if took > max(slowest, 1.0):
                slowest = took
                print(f"{took:.1f} s: {shlex.join(line)[:300]!a}", file=sys.stderr)
            if wrong:
                found.append((line, wrong))
                print(f"{wrong}\n    {line!a}"[:1000])
    return found


def cli() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=20_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    given = parser.parse_args()
    found = run(given.inputs, given.seed)
    print(f"{given.inputs} lines, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(cli())
