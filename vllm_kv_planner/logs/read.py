"""The lines that matter of a log nobody vouches for: within bounds of size, without colours.

A log is read block by block and most of it forgotten at once: a line is kept where it holds a
word that some pattern needs (``patterns.MATTERS``), which is found without looking at each line.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from ..errors import InputError
from ..files.json_file import printable
from .patterns import MATTERS

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
