"""Rows that are in the file already: which they are, and whether they are of this sweep."""

from __future__ import annotations

import csv
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from ...errors import InputError
from ...version import __version__
from .columns import ERROR, KEY

_BLOCK = 1 << 16
_VERSION = "planner.version"


class Kept(NamedTuple):
    """One row of a file: its line, as it stands there, and what it says."""

    line: str
    key: str
    error: str
    version: str


def lock(file: IO[str], path: str) -> None:
    """Nobody else shall write into the file meanwhile.

    Raises:
        InputError: Another sweep does.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"--output {path[:200]!r}: another sweep writes into it") from None
    except OSError:
        return  # a file system without locks


def cut_torn_line(path: str) -> None:
    """Drop what stands behind the last line feed: a row that was never finished."""
    with open(path, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            begin = max(0, end - _BLOCK)
            file.seek(begin)
            at = file.read(end - begin).rfind(b"\n")
            if at >= 0:
                end = begin + at + 1
                break
            end = begin
        file.truncate(end)


def kept_rows(path: str, form: str, columns: Sequence[str]) -> Iterator[Kept]:
    """The rows of a file of whole lines.

    Raises:
        InputError: It is no file of this sweep: other columns, another planner, or damaged.
    """
    read = _csv_rows if form == "csv" else _json_rows
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        for number, kept in read(file, path, columns):
            if kept.version not in ("", __version__):
                raise InputError(
                    f"{path}: line {number} was planned by version {kept.version[:20]}, this is "
                    f"{__version__}; --overwrite, or another --output"
                )
            yield kept


def _csv_rows(file: IO[str], path: str, columns: Sequence[str]) -> Iterator[tuple[int, Kept]]:
    header = file.readline()
    if header and next(csv.reader([header])) != list(columns):
        raise _other_columns(path, 1)
    at = {name: columns.index(name) for name in (KEY, ERROR, _VERSION)}
    for number, line in enumerate(file, start=2):
        try:
            (row,) = csv.reader([line], strict=True)
        except (csv.Error, ValueError):
            row = []
        if len(row) != len(columns):
            raise InputError(f"{path}: line {number} is no row of a sweep; --overwrite")
        yield number, Kept(line, row[at[KEY]], row[at[ERROR]], row[at[_VERSION]])


def _json_rows(file: IO[str], path: str, columns: Sequence[str]) -> Iterator[tuple[int, Kept]]:
    for number, line in enumerate(file, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{path}: line {number} is no row of a sweep; --overwrite")
        if list(row) != list(columns):
            raise _other_columns(path, number)
        texts = (str(row[name] or "") for name in (KEY, ERROR, _VERSION))
        yield number, Kept(line, *texts)


def _other_columns(path: str, number: int) -> InputError:
    return InputError(
        f"{path}: line {number} has other columns than this sweep's (other flags or axes); "
        "--overwrite, or another --output"
    )


def without_errors(path: str, form: str, columns: Sequence[str]) -> None:
    """Drop the rows that could not be planned, so that they are tried again."""
    beside = f"{path}.tmp"
    with open(beside, "w", encoding="utf-8", newline="") as file:
        if form == "csv":
            with open(path, encoding="utf-8", newline="") as old:
                file.write(old.readline())
        for kept in kept_rows(path, form, columns):
            if not kept.error:
                file.write(kept.line)
    os.replace(beside, path)
