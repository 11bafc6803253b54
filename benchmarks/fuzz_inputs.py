#!/usr/bin/env python3
"""Spoilt files and servers: logs, traces, YAML, safetensors headers, answers of a hub.

python benchmarks/fuzz_inputs.py [--kind logs|traces|yaml|headers|hub] [--inputs 2000] [--seed N]

Each input is a good one spoilt in some ways (cut, doubled, bytes changed, words of its format put
anywhere, one part repeated very often), fed to the command that reads it, and held against what is
promised: an answer, or exit code 2 with one printable line on stderr and nothing on stdout; within
a bounded number of calls; no traceback; no file written. The same for the same seed. Exit code 1:
a finding.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import random
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fuzz_configs import VALUES, TooMuchWork, counted
from tests.hub_server import running_raw_server
from tests.start_logs import LLAMA, REFUSED, V019, V029, V066
from tests.trace_files import AZURE, BAILIAN, BURSTGPT, COLUMNS, MOONCAKE, turns
from vllm_kv_planner.cli import main as command_line

CALLS = 30_000_000
"""Calls one answer may take: a sweep of a spoilt grid plans some thousand set-ups."""
REPEATS = 20_000
"""How often a part is repeated, at most, and bytes that an input may have."""
LARGEST = 200_000

CONFIG = {
    "architectures": ["ApertusForCausalLM"],  # has no rule of weights: the checkpoint is read
    "model_type": "apertus",
    **{"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4},
    **{"num_key_value_heads": 4, "vocab_size": 100, "intermediate_size": 128},
    "max_position_embeddings": 128,
}
FIELDS = ("dtype", "shape", "data_offsets")
WORDS = {
    "any": b"\0|\xff|\xc3\xa9|\n|\r\n|\t| |\"|'|\\|{|}|[|]|,|:|0|-1|1e999|NaN|" + b"9" * 400,
    "logs": b"args: |with config: |Namespace(|version |GiB|GPU KV cache size: |NVIDIA |\x1b[31m|"
    b"\x1b]0;|Available KV cache memory: |API server version |(EngineCore pid=1) |=|(|)|\r|<|>",
    "traces": b'"timestamp": |"hash_ids": |"prompt_tokens": 1|2023-11-16 18:15:46|[1, 2]|\x1f\x8b',
    "yaml": b"&a |*a|<<: *a|!!int |!!binary |!!timestamp |- |? |---|...|%YAML 1.1|!x |? |# |>|"
    b"model: |setups:|tp: [1, 2]|1:1:1",
    "headers": b'{"a": |"__metadata__": {|"dtype": |"shape": [|"data_offsets": [0, 1]|"BF16"|{}|[]',
    "hub": b"HTTP/1.1 200 OK\r\n|HTTP/1.1 100 Continue\r\n\r\n|Content-Length: 5\r\n"
    b"|Location: /\r\n|Location: file:///etc/x\r\n|Transfer-Encoding: chunked\r\n|\r\n\r\n"
    b"|ffffffff\r\n|0\r\n|-1\r\n|X-Error-Code: EntryNotFound\r\n|X-Repo-Commit: x\r\n"
    b"|404|307|416|206|Content-Encoding: gzip\r\n",
}


def spoilt(raw: bytes, kind: str, chance: random.Random) -> bytes:
    """``raw`` after one to six changes."""
    words = WORDS["any"].split(b"|") + WORDS[kind].split(b"|") * 2
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        at = chance.randint(0, len(raw))
        end = min(len(raw), at + chance.choice((1, 3, 20, 200)))
        way, codes = chance.randrange(6), chance.choice(((32, 126), (32, 126), (0, 255)))
        if way == 0:
            raw = raw[:at] + raw[end:]
        elif way == 1:
            raw = raw[:at] + chance.choice(words) + raw[at:]
        elif way == 2:
            raw = raw[:at] + chance.choice(words) + raw[end:]
        elif way == 3:
            part = chance.choice((raw[at:end], chance.choice(words)))
            raw = raw[:at] + part * chance.choice((2, 30, REPEATS)) + raw[end:]
        elif way == 4:
            raw = raw[:at] + bytes(chance.randint(*codes) for _ in range(end - at)) + raw[end:]
        else:
            raw = raw[: chance.choice((at, len(raw)))]
        raw = raw[:LARGEST]
    return raw


def log(chance: random.Random) -> bytes:
    """A start-up log of some version."""
    text = spoilt(chance.choice((V019, V029, V066, REFUSED)).encode(), "logs", chance)
    return text if chance.random() < 0.95 else text.decode("utf-8", "replace").encode("utf-16")


def trace(chance: random.Random) -> bytes:
    """A trace of some format, sometimes compressed."""
    talk = json.dumps([turns("Hello", "Good day", "And now?", "We go on")])
    plain = COLUMNS + "0,5,3\n1,7,2\n"
    text = spoilt(
        chance.choice((BURSTGPT, AZURE, MOONCAKE, BAILIAN, talk, plain)).encode(), "traces", chance
    )
    if chance.random() < 0.9:
        return text
    return spoilt(gzip.compress(text, mtime=0), "traces", chance)


def yaml(chance: random.Random) -> bytes:
    """A sweep's file, or the flags of ``vllm serve --config``: see ``yaml_command``."""
    good = "model: gpt2\nmax_num_seqs: [1, 2]\nsetups:\n- {tp: 1, gpu: L4}\n- &a {tp: 2}\n"
    flags = f"model: {LLAMA}\nmax-model-len: 1024\nspeculative-config:\n  method: ngram\n"
    return spoilt(chance.choice((good, flags, tangle(chance))).encode(), "yaml", chance)


def tangle(chance: random.Random) -> str:
    """Mappings that name and merge those before them, a few times or very often."""
    lines, width = ["a0: &a0 {tp: 1}"], chance.choice((1, 2, 9, 500))
    for i in range(1, chance.choice((2, 5, 60))):
        names = ", ".join(f"*a{chance.randrange(i)}" for _ in range(width))
        lines.append(f"a{i}: &a{i} {{{chance.choice(('<<', 'k'))}: [{names}], pp: {i}}}")
    return "\n".join(["model: gpt2", *lines]) + "\n"


def header(chance: random.Random) -> bytes:
    """A whole safetensors file of two layers; the length before a spoilt header is mostly right."""
    tensors: dict[str, dict[str, object]] = {
        f"model.layers.{i}.w": {
            "dtype": "BF16",
            "shape": [2, 2],
            "data_offsets": [8 * i, 8 * i + 8],
        }
        for i in range(2)
    }
    if chance.random() < 0.5:
        chance.choice(list(tensors.values()))[chance.choice(FIELDS)] = chance.choice(VALUES)
    raw = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    raw = spoilt(raw, "headers", chance) if chance.random() < 0.7 else raw
    length = len(raw) if chance.random() < 0.9 else chance.choice((0, 1, len(raw) + 1, 2**63))
    return length.to_bytes(8, "little") + raw + bytes(chance.choice((16, 16, 16, 15)))


def answer(chance: random.Random) -> bytes:
    """What a hub sends when it is asked for a file, headers and all."""
    body = json.dumps(CONFIG).encode()
    heads = (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
        % (len(body), body),
        b"HTTP/1.1 404 Not Found\r\nX-Error-Code: EntryNotFound\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 307 Moved\r\nLocation: /org/n/resolve/main/config.json\r\n\r\n",
    )
    return spoilt(chance.choice(heads), "hub", chance)


def yaml_command(file: Path, chance: random.Random) -> list[str]:
    """Either of the commands that read YAML."""
    if chance.random() < 0.5:
        return ["sweep", "--file", str(file), "--workers", "1", "--no-progress"]
    return ["plan", "--", "vllm", "serve", "gpt2", "--config", str(file)]


def model_command(file: Path, chance: random.Random) -> list[str]:
    """The checkpoint's headers, for a model whose weights no rule knows."""
    (file.parent / "config.json").write_text(json.dumps(CONFIG))
    if chance.random() < 0.3:
        names = dict.fromkeys(("model.layers.0.w", "model.layers.1.w"), file.name)
        index = json.dumps({"metadata": {"total_size": 16}, "weight_map": names}).encode()
        Path(f"{file}.index.json").write_bytes(spoilt(index, "headers", chance))
    return ["plan", str(file.parent)]


Make = Callable[[random.Random], bytes]
Command = Callable[[Path, random.Random], list[str]]
KINDS: dict[str, tuple[Make, str, Command]] = {
    "logs": (log, "vllm.log", lambda file, _: ["explain", str(file)]),
    "traces": (
        trace,
        "trace",
        lambda file, _: [
            *("workload", "gpt2", "--trace", str(file), "--limit", "20", "--no-progress"),
            *("--kv-cache-memory-bytes", "1G", "--step-time", "0.05"),
        ],
    ),
    "yaml": (yaml, "a.yaml", yaml_command),
    "headers": (header, "model.safetensors", model_command),
    "hub": (answer, "answer", lambda _, __: ["plan", "org/m", "--kv-cache-memory-bytes", "1G"]),
}
"""By kind: what makes an input, the name of its file, the command line that reads it."""


def broken_promise(arguments: list[str]) -> str | None:
    """What is wrong with how one command line ends, in a line; None: nothing."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = counted(lambda: command_line(arguments), CALLS)[0]
    except SystemExit as stopped:
        code = stopped.code
    except TooMuchWork as error:
        return str(error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:100]} ({last.filename}:{last.lineno})"
    return wrong_ending(code, out.getvalue(), err.getvalue())


def wrong_ending(code: object, out: str, err: str) -> str | None:
    """What an exit code, stdout and stderr break of the promise."""
    if code in (0, 1):
        return None if out else f"exit code {code} without an answer"
    if code != 2 or out:
        return f"exit code {code}, and {len(out)} characters on stdout"
    if err.count("\n") != 1 or not err[:-1].isprintable() or len(err) > 3000:
        return f"no single line on stderr: {err[:200]!r}"
    return None


def findings(kind: str, inputs: int, seed: int) -> Iterator[tuple[int, str, bytes]]:
    """Number, broken promise and input, of each input of a kind that has one."""
    make, name, command = KINDS[kind]
    for number in range(inputs):
        chance = random.Random(f"{kind} {seed} {number}")
        raw = make(chance)
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            file = Path(folder) / name
            file.write_bytes(raw)
            arguments = command(file, chance)
            before = sorted(os.listdir(folder))
            environment = {"HF_HOME": folder, "XDG_CONFIG_HOME": folder, "HF_HUB_OFFLINE": "1"}
            if kind == "hub":
                server = stack.enter_context(running_raw_server([raw]))
                environment |= {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": server.url}
            stack.enter_context(set_to(environment))
            wrong = broken_promise(arguments)
            if wrong is None and sorted(os.listdir(folder)) != before:
                wrong = f"wrote {sorted(os.listdir(folder))}"
        if wrong is not None:
            yield number, wrong, raw


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
    parser.add_argument("--inputs", type=int, default=2000, help="of each kind; a tenth for hub")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = 0
    for kind in [given.kind] if given.kind else KINDS:
        inputs = given.inputs // 10 if kind == "hub" and not given.kind else given.inputs
        for number, wrong, raw in findings(kind, inputs, given.seed):
            found += 1
            print(f"{kind} {number}: {wrong}\n    {raw[:300]!r}", flush=True)
        print(
            f"{kind}: {inputs:,} inputs of seed {given.seed}, {found} findings so far", flush=True
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
