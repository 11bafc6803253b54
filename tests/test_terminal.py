"""What others wrote never steers the terminal: flags, names of files, configs, logs, traces."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

import vllm_kv_planner
from tests.start_logs import LLAMA, V019
from vllm_kv_planner.cli import main
from vllm_kv_planner.config.find import find_config

STEERING = (
    "\x1b[31mX\x1b[0m",
    "\x1b]0;title\x07",
    "a\nb",
    "c\rd",
    "\u202egnp",
    "\u2028line",
    "\ud800",
    "\x9b31m",
    "t\tb",
    "\u200b",
    "\x7f",
)
COMMANDS = (
    ["plan"],
    ["fit", "--context", "512"],
    ["compare", "gpt2"],
    ["paging"],
    ["workload", "--prompt-tokens", "5", "--output-tokens", "5", "--requests", "2"],
    ["sweep", "--workers", "1"],
)
FLAGS = ("--gpu", "--dtype", "--max-model-len", "--config", "--calibration", "--format", "--file")


def said(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is printed; it must hold nothing that steers, and no line that others broke."""
    code = main(words)
    out, err = capsys.readouterr()
    for letter in out + err:
        assert letter.isprintable() or letter == "\n", (words, letter, out, err)
    if "\n" in text:
        assert text not in out + err, (words, out, err)
    if code == 2:
        assert (out, err.count("\n")) == ("", 1), (words, out, err)
    return out + err


@pytest.mark.parametrize("text", STEERING, ids=ascii)
def test_flags(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    random = Random(ascii(text))
    for command in COMMANDS:
        flag = random.choice(FLAGS)
        for words in (
            [*command, text, "--gpu", "L4"],
            [*command, "gpt2", "--gpu", "L4", flag, text],
            [*command, "gpt2", "--gpu", "L4", f"--{text}", "1"],
            [*command, "gpt2", "--gpu", "L4", f"{flag}={text}"],
        ):
            said(words, text, capsys)
    for words in (
        [text],
        ["sweep", "gpt2", "--grid", f"tp={text}"],
        ["sweep", "gpt2", "--output", f"{text}.csv/x.csv"],
        ["sweep", "--file", text],
        ["workload", "gpt2", "--gpu", "L4", "--trace", text],
        ["workload", "gpt2", "--gpu", "L4", "--html", f"{text}/x"],
        ["explain", text],
        ["calibrate", text, "--gpu", "L4"],
    ):
        said(words, text, capsys)


@pytest.mark.parametrize("text", STEERING, ids=ascii)
def test_a_pasted_command(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["vllm", "serve", text],
        ["vllm", "serve", "gpt2", f"--{text}", "x"],
        ["vllm", "serve", "gpt2", "--new-flag", text],
        ["vllm", "serve", "gpt2", "--served-model-name", text],
        [f"A={text}", "vllm", "serve", "gpt2"],
        ["env", f"A={text}", "vllm", "serve", "gpt2"],
        [text, "vllm", "serve", "gpt2"],
    ):
        said(["launch", "--dry-run", "--gpu", "L4", "--", *words], text, capsys)
        said(["plan", "--gpu", "L4", "--", *words], text, capsys)


@pytest.mark.parametrize("text", [each for each in STEERING if each != "\ud800"], ids=ascii)
def test_names_of_files_and_what_is_in_them(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / text.replace("/", "")
    folder.mkdir()
    config = folder / "config.json"
    known = dict(find_config("gpt2").config)
    config.write_text(json.dumps(known))
    for form in ("text", "json", "csv", "markdown"):
        for command in COMMANDS[:5]:
            words = [command[0], str(folder), *command[1:], "--gpu", "L4", "--format", form]
            said(words, text, capsys)
    rows = str(folder / "rows.csv")
    said(["sweep", str(folder), "--gpu", "L4", "--workers", "1", "--output", rows], text, capsys)
    assert all(line.isprintable() for line in Path(rows).read_text().split("\n"))
    for key in ("architectures", "model_type", "dtype", "rope_scaling", "quantization_config"):
        for value in (text, [text], {text: text}, {"rope_type": text, "quant_method": text}):
            config.write_text(json.dumps({**known, key: value}))
            said(["plan", str(folder), "--gpu", "L4"], text, capsys)
    log, kept = folder / "start.log", str(folder / "c.json")
    for told in (
        V019,
        V019.replace(LLAMA, text),
        V019.replace("0.19.0", f"0.19.0{text}"),
        f"{V019}ERROR CUDA out of memory {text} more\n",
    ):
        log.write_text(told, encoding="utf-8")
        for form in ("text", "json"):
            said(["explain", str(log), "--gpu", "H100", "--format", form], text, capsys)
            learn = ["calibrate", str(log), "--gpu", "H100", "--calibration", kept]
            said([*learn, "--format", form], text, capsys)


def test_colours_of_ours_and_of_nobody_else(tmp_path: Path) -> None:
    """On a terminal: five colours and their end, and the progress bar's return."""
    (tmp_path / "\x1b[31mred\x1b[0m\x1b[2J").mkdir()
    model = next(tmp_path.iterdir())
    (model / "config.json").write_text(json.dumps(dict(find_config("gpt2").config)))
    ours, theirs = pty.openpty()
    words = ["plan", str(model), "--gpu", "L4", "--calibration", "\x1b[2J"]
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    shown = b""
    for each in (words[:-2], words):
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm_kv_planner", *each],
            stdout=theirs,
            stderr=theirs,
            env=environment,
        )
        process.wait()
        shown += os.read(ours, 1 << 16)
    os.close(theirs)
    os.close(ours)
    codes = set(re.findall(rb"\x1b[^m]*m?", shown))
    assert codes and codes <= {b"\x1b[0m", b"\x1b[1m", b"\x1b[2m", b"\x1b[31m", b"\x1b[32m"}
    assert rb"\x1b[31mred\x1b[0m\x1b[2J" in shown


def test_one_function_prints() -> None:
    """Nothing else does: no ``print`` but in the process that asks vLLM, which has no texts."""
    package = Path(vllm_kv_planner.__file__).parent
    found = []
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        likely = "print(" in text or ".write(" in text
        for node in ast.walk(ast.parse(text)) if likely else ():
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name == "print" or re.search(r"\bstd(out|err)\.write$", name):
                    found.append(path.relative_to(package).as_posix())
    assert found == ["vllm_adapter/child.py"]
