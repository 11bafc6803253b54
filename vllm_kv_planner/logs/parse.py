"""A log's lines read into a ``StartLog``; of several starts the last that says something."""

from __future__ import annotations

import codecs
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from ..errors import InputError, printable
from ..masking import masked_text
from ..records import replace
from .arguments import read_arguments, read_config_line
from .ended import Serving
from .patterns import (
    BACKENDS,
    BANNER,
    CPU_ENGINE,
    DEVICE,
    FLASH,
    MATTERS,
    MEASURES,
    NEEDLES,
    NVIDIA,
    PROCESS,
    REFUSALS,
    RUNNER_V1,
    RUNNER_V2,
    VERSION_AND_MODEL,
)
from .start_log import StartLog


def parse_log(path: str) -> StartLog:
    """The start that the log at ``path`` (``-``: standard input) tells of.

    Raises:
        InputError: It cannot be read, or is no start-up log of vLLM.
    """
    notes: list[str] = []
    log = parse_lines(read_log(path, notes), where="standard input" if path == "-" else path)
    return replace(log, notes=tuple(notes)) if notes else log


def parse_lines(lines: Iterable[str], *, where: str) -> StartLog:
    """As ``parse_log``, for the lines themselves; those of ``patterns.MATTERS`` suffice.

    Raises:
        InputError: No line is vLLM's.
    """
    reader = _Reader(where)
    last: StartLog | None = None
    for line in lines:
        if reader.is_server and "version" in line and BANNER.search(line):
            last = _later(last, reader.start())
            reader = _Reader(where)
        reader.line(line)
    last = _later(last, reader.start())
    if not last.measures and last.refusal is None:
        raise InputError(
            f"{where[:200]}: no line of it tells of memory as vLLM does ('Model loading took', "
            "'Available KV cache memory', 'GPU KV cache size'): is it an engine's start-up log?"
        )
    return last


def _later(last: StartLog | None, log: StartLog) -> StartLog:
    """Of two starts the later one that says something."""
    return log if last is None or log.measures or not last.measures else last


class _Reader:
    """Collects one start, line by line."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.names: dict[str, str] = {}
        self.gpu: str | None = None
        self.arguments: dict[str, Any] = {}
        self.settled: dict[str, Any] = {}
        self.measures: dict[str, dict[str, float]] = {}
        self.backend: str | None = None
        self.runner: str | None = None
        self.is_server = False
        self.refusal: str | None = None
        self.serving = Serving()
        self.on_cpu = False

    def start(self) -> StartLog:
        """What the lines so far tell."""
        return StartLog(
            where=self.where,
            version=self.version,
            model=self.arguments.get("model") or self.names.get("model"),
            gpu=self.gpu,
            arguments=self.arguments,
            settled=self.settled,
            measures=self.measures,
            backend=self.backend,
            runner=self.runner,
            is_server=self.is_server,
            refusal=self.refusal,
            ended=self.serving.ended,
            on_cpu=self.on_cpu,
        )

    @property
    def version(self) -> str | None:
        found = self.names.get("version")
        return None if found is None else found.removeprefix("v").rstrip(".")

    def line(self, line: str) -> None:
        """One line's facts; each kind of line is known by a word before a pattern is tried."""
        if any(needle in line for needle in NEEDLES):
            self.identity(line)
        if "args: " in line:
            self.arguments.update(read_arguments(line.split("args: ", 1)[1]))
        if "with config: " in line:
            self.settled.update(read_config_line(line.split("with config: ", 1)[1]))
        if "device_name=" in line and (found := DEVICE.search(line)) is not None:
            self.gpu = found[1].replace("_", " ")
        elif self.gpu is None and "NVIDIA " in line and (found := NVIDIA.search(line)) is not None:
            self.gpu = found[0].strip()
        if "cpu" in line.lower() and CPU_ENGINE.search(line):
            self.on_cpu = True
        if "ackend" in line:
            self.attention(line)
        if RUNNER_V2 in line:
            self.runner = "V2"
        elif RUNNER_V1 in line and "Model loading took" in line:
            self.runner = self.runner or "V1"
        for needle, pattern in MEASURES:
            if needle in line and (found := pattern.search(line)) is not None:
                self.figures(line, found.groupdict())
        if not self.serving.line(line) and self.refusal is None:
            self.gives_up(line)

    def identity(self, line: str) -> None:
        if BANNER.search(line):
            self.is_server = True
        for pattern in VERSION_AND_MODEL:
            found = pattern.search(line)
            if found is not None:
                for name, text in found.groupdict().items():
                    self.names.setdefault(name, text)

    def attention(self, line: str) -> None:
        if FLASH.search(line):
            self.backend = self.backend or "FLASH_ATTN"
        for pattern in BACKENDS:
            found = pattern.search(line)
            if found is not None and self.backend is None and found[1] != "VLLM":
                self.backend = found[1]

    def figures(self, line: str, found: dict[str, str | None]) -> None:
        process = PROCESS.search(line)
        name = process[1] if process else ""
        for measure, text in found.items():
            if text is not None:
                self.measures.setdefault(measure, {})[name] = float(text.replace(",", ""))

    def gives_up(self, line: str) -> None:
        for needle, pattern in REFUSALS:
            if needle in line and (found := pattern.search(line)) is not None:
                self.refusal = masked_text(line[found.start() :][:1000])[:300].strip()
                return


MAX_BYTES = 256 << 20
"""A start-up takes some hundred lines, a server's log of weeks holds them at its beginning; of a
longer one the beginning is read, and that is said."""
MAX_LINE = 100_000
"""Characters of a line that are looked at; vLLM's longest (the whole config) has some 10,000."""
MAX_KEPT_BYTES = 1 << 20
MAX_KEPT_LINES = 20_000
"""Of lines that matter: a start of one rank has some 50, 20 KB in all."""

_BLOCK_BYTES = 1 << 20
_COLOURS = re.compile(rb"\x1b\[[0-9;?]{0,40}[A-Za-z]|\x1b\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)")
_NON_BLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_log(path: str, notes: list[str] | None = None) -> Iterator[str]:
    """The lines that matter of the file at ``path`` (``-``: standard input), as they stand there.

    It is read block by block and most of it forgotten at once: a line is kept where it holds a word
    that some pattern needs (``patterns.MATTERS``), found without looking at each line.

    Args:
        path: The file.
        notes: Takes what is to be said of the reading: where it ended before the file did.

    Raises:
        InputError: The file cannot be read, is no text, or holds more such lines than any start.
    """
    where = "standard input" if path == "-" else printable(path[:200])
    try:
        if path == "-":
            yield from log_lines(sys.stdin.buffer, where, notes)
            return
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{where}: not a regular file")
        # non-blocking: should a pipe take the file's place meanwhile, open must not wait
        with open(os.open(path, os.O_RDONLY | _NON_BLOCKING), "rb") as file:
            yield from log_lines(file, where, notes)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror or error})") from None
    except ValueError:  # a NUL byte in the name, or half a surrogate pair
        raise InputError(f"{where}: not a usable file name") from None


def log_lines(file: BinaryIO, where: str, notes: list[str] | None = None) -> Iterator[str]:
    """As ``read_log``, from an open file."""
    count = size = 0
    for whole_lines in _whole_lines(_utf8(_blocks(file), where)):
        kept = _that_matter(whole_lines)
        count += len(kept)
        size += sum(map(len, kept))
        if count > MAX_KEPT_LINES or size > MAX_KEPT_BYTES:
            raise InputError(
                f"{where}: holds more than {MAX_KEPT_LINES:,} lines or {MAX_KEPT_BYTES >> 20} MiB "
                "of an engine's start: give the log of one start"
            )
        if kept:
            yield from clean_lines(b"\n".join(kept).decode("utf-8", errors="replace"))
    if notes is not None and file.read(1):
        notes.append(f"{where}: longer than {MAX_BYTES >> 20} MiB, of which the rest is not read")


def clean_lines(text: str) -> list[str]:
    """Lines without colours and line-end marks, each of bounded length."""
    if "\x1b" in text:
        text = _COLOURS.sub(b"", text.encode("utf-8", "replace")).decode("utf-8")
    # a progress bar rewrites its line: only what stands behind the last return counts
    return [line.rstrip("\r").rsplit("\r", 1)[-1][:MAX_LINE] for line in text.split("\n")]


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    left = MAX_BYTES
    while left > 0 and (block := file.read(min(left, _BLOCK_BYTES))):
        left -= len(block)
        yield block


def _utf8(blocks: Iterator[bytes], where: str) -> Iterator[bytes]:
    """UTF-8 as it is, and UTF-16 with its mark, as PowerShell redirects, made into it.

    Raises:
        InputError: It holds binary data.
    """
    decoder: codecs.IncrementalDecoder | None = None
    for number, block in enumerate(blocks):
        if number == 0 and block[:2] in (b"\xff\xfe", b"\xfe\xff"):
            decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")
        elif number == 0 and block[:4096].count(b"\0") > 16:
            raise InputError(f"{where}: binary data, not a log")
        yield block if decoder is None else decoder.decode(block).encode("utf-8", "replace")


def _whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Blocks that end where a line ends, colours taken out; lines of bounded length."""
    rest = b""
    for block in blocks:
        whole, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            yield _COLOURS.sub(b"", whole) if b"\x1b" in whole else whole
        if len(rest) > 4 * MAX_LINE:  # four bytes a character, at most
            rest = rest.rstrip(b"\r").rsplit(b"\r", 1)[-1][: 4 * MAX_LINE]
    yield _COLOURS.sub(b"", rest)


def _that_matter(lines: bytes) -> list[bytes]:
    """Lines that hold one of the words, in their order."""
    places: set[tuple[int, int]] = set()
    for word in MATTERS:
        at = lines.find(word)
        while at >= 0:
            end = lines.find(b"\n", at)
            end = len(lines) if end < 0 else end
            places.add((lines.rfind(b"\n", 0, at) + 1, end))
            at = lines.find(word, end)
    return [lines[begin:end] for begin, end in sorted(places)]
