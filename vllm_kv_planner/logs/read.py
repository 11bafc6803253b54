"""The text of a log nobody vouches for: within bounds of size, without colours."""

from __future__ import annotations

import os
import re
import stat
import sys

from ..errors import InputError
from ..model.json_file import printable

MAX_BYTES = 32 << 20
"""A start-up takes some hundred lines; of a longer log the beginning is read."""
MAX_LINE = 100_000
"""Characters of a line that are looked at; vLLM's longest (the whole config) has some 10,000."""

_COLOURS = re.compile(r"\x1b\[[0-9;?]{0,40}[A-Za-z]|\x1b\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)")
_NON_BLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_log(path: str) -> list[str]:
    """The lines of the file at ``path`` (``-``: standard input), colours taken out.

    Raises:
        InputError: The file cannot be read or is no text.
    """
    where = "standard input" if path == "-" else printable(path[:200])
    try:
        raw = sys.stdin.buffer.read(MAX_BYTES) if path == "-" else _read(path, where)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror or error})") from None
    except ValueError:  # a NUL byte in the name, or half a surrogate pair
        raise InputError(f"{where}: not a usable file name") from None
    return clean_lines(decoded(raw, where))


def decoded(raw: bytes, where: str) -> str:
    """The text: UTF-8, or UTF-16 with its mark, as PowerShell redirects.

    Raises:
        InputError: It holds binary data.
    """
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", errors="replace")
    if raw[:4096].count(b"\0") > 16:
        raise InputError(f"{where}: binary data, not a log")
    return raw.decode("utf-8", errors="replace")


def clean_lines(text: str) -> list[str]:
    """Lines without colours and line-end marks, each of bounded length."""
    if "\x1b" in text:
        text = _COLOURS.sub("", text)
    # a progress bar rewrites its line: only what stands behind the last return counts
    return [line.rstrip("\r").rsplit("\r", 1)[-1][:MAX_LINE] for line in text.split("\n")]


def _read(path: str, where: str) -> bytes:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise InputError(f"{where}: not a regular file")
    # non-blocking: should a pipe take the file's place meanwhile, open must not wait
    with open(os.open(path, os.O_RDONLY | _NON_BLOCKING), "rb") as file:
        return file.read(MAX_BYTES)
