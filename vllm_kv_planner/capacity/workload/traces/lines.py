"""Lines of a trace nobody vouches for: plain or gzip, of bounded length, with their numbers."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

from ....errors import InputError, printable

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES_OF_LINE = 4 << 20
"""A request of a trace takes some hundred bytes; one of a million shared blocks ten million."""
GZIP = b"\x1f\x8b"
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
                import gzip

                unpacked = gzip.GzipFile(fileobj=self._raw)
                self._file = io.BufferedReader(cast("io.RawIOBase", unpacked))
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
