"""Configs made to hurt: refused in one line, in bounded time and memory, running nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.work import bytes_in
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.errors import ConfigError
from vllm_kv_planner.files.json_file import parse_config, read_config_file
from vllm_kv_planner.model.config import Config

REPOSITORY = Path(__file__).resolve().parent.parent

# Each value costs memory many times its text. These fill the 10 MB that may be read.
HUGE_TEXTS: dict[str, Callable[[], bytes]] = {
    "empty objects": lambda: b'{"a":[' + b"{}," * 3_300_000 + b"{}]}",
    "short strings": lambda: b'{"a":[' + b'"ab",' * 1_900_000 + b'"ab"]}',
    "numbers": lambda: b'{"a":[' + b"1e9," * 2_400_000 + b"1]}",
    "values up to the limit": lambda: b'{"a":[' + b'"abcdefghijkl",' * 499_000 + b"1]}",
    "long integers": lambda: b'{"a":[' + (b"9" * 4200 + b",") * 2300 + b"1]}",
    "many keys": lambda: b"{" + b",".join(b'"key%d":1' % i for i in range(499_000)) + b"}",
    "one long string": lambda: b'{"a":"' + b"x" * 9_900_000 + b'"}',
    "wide characters": lambda: b'{"a":"' + "\U0001f999".encode() * 2_400_000 + b'"}',
    "one long integer": lambda: b'{"a":' + b"9" * 5000 + b"}",
    "open brackets": lambda: b"[" * 9_000_000,
    "open objects": lambda: b'{"a":' * 1_900_000,
    "deep nesting": lambda: b'{"a":' * 300 + b"1" + b"}" * 300,
    "no JSON": lambda: b"\x00\xff" * 1_000_000,
}

MEASURED = """
import sys
from tests.work import calls_in
from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.model.config import Config
from vllm_kv_planner.config.find import find_config
def read():
    try:
        found = find_config(sys.argv[1])
        print(Config(found.config, "c").int("a"))
    except PlannerError as error:
        print(error)
print(calls_in(read))
with open("/proc/self/status") as status:  # getrusage's peak may be the parent's
    print(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", HUGE_TEXTS)
def test_work_and_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(HUGE_TEXTS[name]())
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        cwd=REPOSITORY,
    )
    message, calls, peak_kib = done.stdout.splitlines()
    assert len(message) < 400
    assert message.isprintable()
    assert int(calls) < 100_000  # imports; what is counted and parsed is, in C
    assert int(peak_kib) < 200_000_000 / 1024


def refused(raw: bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(raw, "x/config.json")
    message = str(caught.value)
    assert message.startswith("x/config.json: ")
    assert message.isprintable()
    return message


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON (Expecting property name"),
        (b'{"a": 1,}', "not valid JSON"),
        (b"{} {}", "not valid JSON (Extra data"),
        (b'{"a": "\x01"}', "not valid JSON (Invalid control character"),
        (b"\xef\xbb\xbf{}", "not valid JSON (Unexpected UTF-8 BOM"),
        (b'{"a": "\xff"}', "not UTF-8 text (byte 7)"),
        (b'{\x00"\x00a\x00', "not valid JSON"),
        (b"[]", "must hold a JSON object, holds a list of 0"),
        (b"null", "must hold a JSON object, holds null"),
        (b"NaN", "must hold a JSON object, holds NaN"),
        (b'"\\u001b[31m\\ud800"', r'must hold a JSON object, holds "\x1b[31m\ud800"'),
        (b'{"a": ' + b"[" * 120 + b"]" * 120 + b"}", "nested deeper than 100 levels"),
        (b"[" * 100_000, "nested deeper than 100 levels"),
        (b'{"a": ' + b"1" * 5000 + b"}", "a number of thousands of digits"),
        (b" " * 10_000_001, "larger than 10 MB"),
        (b'{"a": [' + b"1," * 500_001 + b"1]}", "more than 500,000 values"),
    ],
)
def test_not_a_config(raw: bytes, says: str) -> None:
    assert says in refused(raw)


def test_published_oddities_are_read() -> None:
    # Nemotron-H: "time_step_limit": [0.0, Infinity]; refused only where such a number is used.
    config = Config(parse_config(b'{"a": [0.0, Infinity], "n": NaN, "n": NaN}', "c"), "c")
    with pytest.raises(ConfigError, match=r"c: a\[0\] must be a whole number from 0 .*, is 0\.0"):
        config.list_of_ints("a")
    with pytest.raises(ConfigError, match=r"n must be a number from 0 to 1e\+12, is NaN"):
        config.float("n")
    assert parse_config(b'{"a": ' + b"[" * 90 + b"]" * 90 + b', "a": 2}', "c") == {"a": 2}


# Files that are no files


def fifo(path: Path) -> None:
    os.mkfifo(path)


def to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def circle(path: Path) -> None:
    path.symlink_to(path)


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "gone")


def folder(path: Path) -> None:
    path.mkdir()


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100_000_000)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (fifo, "not a regular file"),
        (to_device, "not a regular file"),
        (folder, "not a regular file"),
        (circle, "cannot be read"),
        (dangling, "cannot be read"),
        (sparse, "larger than 10 MB"),
    ],
)
def test_not_a_file(make: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    make(path)
    for reference in (str(tmp_path), str(path)):
        if reference == str(path) and make is folder:
            says = "holds no config.json"  # a folder of that name is a model folder
        # nothing waits for a pipe's writer, and no device is read to its end
        assert bytes_in(lambda at=reference, why=says: refused_file(at, why)) < 12_000_000


def refused_file(reference: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        find_config(reference)
    assert str(caught.value).isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")
    path.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read"):
        find_config(str(path))


def test_names_of_files_are_escaped_and_cut(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_config(f"{tmp_path}/a\x1b[31m\nb\u202e/" + "c" * 5000 + "/config.json")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    for path in ("a\0b", "a" * 10_000, "\udcff\n"):
        with pytest.raises(ConfigError) as caught:
            read_config_file(path)
        assert str(caught.value).isprintable()


def test_no_code_is_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass C: pass\n")
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "auto_map": {"AutoConfig": "trap.C", "AutoModelForCausalLM": "trap.C"},
                "trust_remote_code": True,
                "model_type": "trap",
                "__class__": "trap.C",
            }
        )
    )
    found = find_config(str(tmp_path))
    assert Config(found.config, "c").str("model_type") == "trap"
    assert not (tmp_path / "sprung").exists()
