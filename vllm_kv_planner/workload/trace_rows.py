"""Rows of a trace file nobody vouches for: CSV, JSON lines or one JSON array, plain or gzip.

Every row comes with the line it stands on; lines and items are of bounded length.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, cast

from ..errors import InputError, printable
from ..files.json_file import shown

MOST_BYTES_OF_LINE = 4 << 20
"""A request of a trace takes some hundred bytes; one of a million shared blocks ten million."""
GZIP = b"\x1f\x8b"
MOST_EMPTY = 10_000
"""Empty lines in a row: a small gzip file may hold millions, and no trace does."""
MOST_UNPACKED = 16 << 20
"""Bytes that a compressed trace may unpack to, whatever its own size."""
MOST_TIMES = 200
"""And how many times its own size beyond that; real traces shrink to a fifth or a twentieth."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class TraceInput:
    """An open trace: its bytes, and its name for messages, ``where``."""

    def __init__(self, path: str) -> None:
        self.where = "standard input" if path == "-" else printable(path[:200]) or "''"
        self._raw = cast("io.BufferedReader", _opened(path, self.where))
        self._file = self._raw
        try:
            if self.peek(2) == GZIP:
                self._file = io.BufferedReader(_Unpacked(self._raw, self.where))
            if self.peek(3) == BYTE_ORDER_MARK:
                self._file.read(3)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self._file is not self._raw:
            self._file.close()
        if self.where != "standard input":
            self._raw.close()

    def peek(self, size: int) -> bytes:
        """Up to ``size`` bytes from here on, which stay to be read."""
        return self._guarded(lambda: self._file.peek(size)[:size])

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; empty at the end."""
        return self._guarded(lambda: self._file.read1(size))

    def refusal(self, line: int, message: str) -> InputError:
        """What is wrong, and on which line."""
        return InputError(f"{self.where}, line {line:,}: {message}")

    def lines(self) -> Iterator[str]:
        """Every line with its end, as text."""
        number = empty = 0
        while line := self._guarded(lambda: self._file.readline(MOST_BYTES_OF_LINE + 1)):
            number += 1
            if len(line) > MOST_BYTES_OF_LINE:
                raise self.refusal(number, "longer than 4 MiB")
            empty = 0 if line.strip() else empty + 1
            if empty > MOST_EMPTY:
                raise self.refusal(number, f"more than {MOST_EMPTY:,} empty lines in a row")
            if b"\0" in line:
                raise self.refusal(number, "binary data, or UTF-16: no UTF-8")
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                raise self.refusal(number, "not UTF-8 text") from None

    def _guarded(self, read: Callable[[], bytes]) -> bytes:
        import zlib

        try:
            return read()
        except (EOFError, zlib.error):
            raise InputError(f"{self.where}: the gzip data is damaged or cut off") from None
        except OSError as error:
            raise InputError(f"{self.where}: cannot be read ({error.strerror or error})") from None


_PACKED_AT_ONCE = 8192  # Python 3.12 and later ask for 128 KiB


class _Packed:
    """A compressed file that counts what was read of it; all that ``GzipFile`` asks for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes_read = 0

    def read(self, size: int = -1) -> bytes:
        """The next compressed bytes: few, since all of them count before they are unpacked."""
        packed = self._file.read(min(size, _PACKED_AT_ONCE) if size >= 0 else size)
        self.bytes_read += len(packed)
        return packed


class _Unpacked(io.RawIOBase):
    """The bytes in a gzip file, which are not to be out of all proportion to it."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        import gzip

        self._packed = _Packed(file)
        self._gzip = gzip.GzipFile(fileobj=cast("BinaryIO", self._packed), mode="rb")
        self._where = where
        self._bytes_out = 0

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next unpacked bytes; refuses too many of them."""
        count = self._gzip.readinto(buffer)
        self._bytes_out += count
        if self._bytes_out > max(MOST_UNPACKED, MOST_TIMES * self._packed.bytes_read):
            raise InputError(
                f"{self._where}: unpacks to more than {MOST_TIMES} times its size, which no trace "
                "does: unpack it yourself if it is right (gzip -d) and give the plain file"
            )
        return count


def _opened(path: str, where: str) -> BinaryIO:
    """The file's bytes; a pipe will do, as the shell's ``<(zcat trace.gz)``."""
    if path == "-":
        return sys.stdin.buffer
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            raise InputError(f"{where}: a directory, not a trace")
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror or error})") from None
    except InputError:
        raise
    except ValueError:  # a NUL byte in the name, or half a surrogate pair
        raise InputError(f"{where}: not a usable file name") from None


CHUNK = 1 << 16
_BETWEEN = re.compile(r"[ \t\r\n]*")


class _Text:
    """The decoded text that is not yet consumed, and the line it begins on."""

    def __init__(self, file: TraceInput) -> None:
        self.file = file
        self.text = ""
        self.at = 0
        self.line = 1
        self.ended = False
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def more(self, size: int = CHUNK) -> None:
        """Read on, and forget what is consumed."""
        self.line += self.text.count("\n", 0, self.at)
        self.text, self.at = self.text[self.at :], 0
        raw = self.file.read(size)
        self.ended = not raw
        try:
            self.text += self._decoder.decode(raw, self.ended)
        except UnicodeDecodeError:
            raise self.refusal("not UTF-8 text") from None

    def skip(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            match = _BETWEEN.match(self.text, self.at)
            assert match is not None
            self.at = match.end()
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()

    def here(self) -> int:
        """The line of the next character."""
        return self.line + self.text.count("\n", 0, self.at)

    def refusal(self, message: str) -> InputError:
        """What is wrong with the next character."""
        return self.file.refusal(self.here(), message)


def array_items(file: TraceInput) -> Iterator[tuple[int, Any]]:
    """The items of the array, each with the line it begins on."""
    text = _Text(file)
    if text.skip() != "[":
        raise text.refusal("no JSON array")
    text.at += 1
    if text.skip() == "]":
        return
    while True:
        text.skip()
        number = text.here()
        yield number, _item(text)
        separator = text.skip()
        if separator == "]":
            return
        if separator != ",":
            raise text.refusal("the JSON array ends early" if text.ended else "no comma nor ]")
        text.at += 1


def _item(text: _Text) -> Any:
    """The value that begins here, reading on until it is whole."""
    decoder = json.JSONDecoder()
    wanted = CHUNK
    while True:
        try:
            value, end = decoder.raw_decode(text.text, text.at)
        except RecursionError:
            raise text.refusal("nested too deep") from None
        except json.JSONDecodeError as error:
            if text.ended and len(text.text) - text.at <= MOST_BYTES_OF_LINE:
                raise text.refusal(f"not valid JSON ({error.msg})") from None
        except ValueError:  # Python refuses integers of more than 4300 digits
            raise text.refusal("a number of thousands of digits") from None
        else:
            # a number at the very end may go on in the next chunk
            if end < len(text.text) or text.ended:
                text.at = end
                return value
        if len(text.text) - text.at > MOST_BYTES_OF_LINE:
            raise text.refusal("not valid JSON, or one item of more than 4 MiB")
        # twice as much at every try, so that a long item is not parsed too often
        goal = len(text.text) - text.at + wanted
        while len(text.text) - text.at < goal and not text.ended:
            text.more(CHUNK)
        wanted *= 2


Row = tuple[int, Mapping[str, Any]]
"""Line number, and values by column; CSV values are texts."""

MOST_COLUMNS = 1000


def read_rows(file: TraceInput) -> Iterator[Row]:
    """The rows of whatever the file looks like; lazy."""
    begins = file.peek(8192).lstrip()[:1]
    if begins == b"[":
        return _objects(array_items(file), file)
    if begins == b"{":
        return _objects(_json_lines(file), file)
    return _csv_rows(file)


def _objects(items: Iterator[tuple[int, Any]], file: TraceInput) -> Iterator[Row]:
    for number, item in items:
        if not isinstance(item, dict):
            raise file.refusal(number, f"{shown(item)} where a request is an object")
        yield number, item


def _json_lines(file: TraceInput) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file.lines(), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except RecursionError:
            raise file.refusal(number, "nested too deep") from None
        except json.JSONDecodeError as error:
            what = f"not one JSON object ({error.msg}, column {error.colno:,})"
            valid = "one object a line, or one array of objects"
            raise file.refusal(number, f"{what}; valid: {valid}") from None
        except ValueError:  # Python refuses integers of more than 4300 digits
            raise file.refusal(number, "a number of thousands of digits") from None


def _csv_rows(file: TraceInput) -> Iterator[Row]:
    import csv

    lines = file.lines()
    header = next(lines, None)
    if header is None:
        return
    separator = max(",;\t", key=header.count)
    try:
        names = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
    except csv.Error as error:
        raise file.refusal(1, f"no CSV header ({error})") from None
    if not any(names) or len(names) > MOST_COLUMNS:
        raise file.refusal(1, "no CSV header, and no JSON either")
    if len(set(names)) < len(names):
        raise file.refusal(1, "a column is named twice")
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise file.refusal(1 + reader.line_num, str(error)) from None
        if row is None:
            return
        if not row:
            continue
        if len(row) != len(names):
            what = f"{len(row):,} columns where the header names {len(names):,}"
            raise file.refusal(1 + reader.line_num, what)
        yield 1 + reader.line_num, dict(zip(names, row, strict=True))
