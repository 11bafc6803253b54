"""Lines of a trace nobody vouches for: plain or gzip, of bounded length, with their numbers."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ...errors import InputError, printable

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES_OF_LINE = 4 << 20
"""A request of a trace takes some hundred bytes; one of a million shared blocks ten million."""
GZIP = b"\x1f\x8b"
MOST_UNPACKED = 16 << 20
"""Bytes that a compressed trace may unpack to, whatever its own size."""
MOST_TIMES = 200
"""And how many times its own size beyond that; real traces shrink to a fifth or a twentieth."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class TraceInput:
    """An open trace: its bytes, and its name for messages.

    Attributes:
        where: The file's name, safe to print.
    """

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
        """Up to ``size`` bytes; empty at the end.

        Raises:
            InputError: The file cannot be read on, or is no gzip after all.
        """
        return self._guarded(lambda: self._file.read1(size))

    def lines(self) -> Iterator[str]:
        """Every line with its end, as text.

        Raises:
            InputError: A line that is too long or is no text; names it.
        """
        number = 0
        while line := self._guarded(lambda: self._file.readline(MOST_BYTES_OF_LINE + 1)):
            number += 1
            if len(line) > MOST_BYTES_OF_LINE:
                raise InputError(f"{self.where}, line {number:,}: longer than 4 MiB")
            if b"\0" in line:
                raise InputError(f"{self.where}, line {number:,}: binary data, or UTF-16: no UTF-8")
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                raise InputError(f"{self.where}, line {number:,}: not UTF-8 text") from None

    def _guarded(self, read: Callable[[], bytes]) -> bytes:
        import zlib

        try:
            return read()
        except (EOFError, zlib.error):
            raise InputError(f"{self.where}: the gzip data is damaged or cut off") from None
        except OSError as error:
            raise InputError(f"{self.where}: cannot be read ({error.strerror or error})") from None


class _Packed:
    """A compressed file that counts what was read of it; all that ``GzipFile`` asks for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes_read = 0

    def read(self, size: int = -1) -> bytes:
        """The next compressed bytes."""
        packed = self._file.read(size)
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
        """The next unpacked bytes.

        Raises:
            InputError: There are too many of them.
        """
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
