"""Rows that are in the file already: which they are, and whether they are of this sweep.

Nothing here changes a file: ``output.py`` does, once all of it is known to be a sweep's own.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...errors import InputError
from ...files.written import shown_path
from ...version import __version__
from .columns import ERROR, KEY
from .sinks import csv_line

LONGEST_LINE = 4 << 20
"""Bytes; a row takes some thousand."""
_VERSION = "planner.version"


class Kept(NamedTuple):
    """One row of a file: its line, as it stands there, and what it says."""

    line: bytes
    key: str
    error: str
    version: str


class Looked(NamedTuple):
    """What is in a file of rows.

    Attributes:
        rows: The keys of its whole rows, and whether each has an error.
        end: Bytes of the header and the whole rows.
        torn: What stands behind them: a row that was never finished, empty where there is none.
        torn_key: Its key, where all of it is there but the line feed.
    """

    rows: tuple[tuple[str, bool], ...]
    end: int
    torn: str
    torn_key: str | None


def look(path: str, form: str, columns: Sequence[str]) -> Looked:
    """Read a file of rows to its end.

    Raises:
        InputError: It is no file of this sweep: other columns, another planner, or damaged.
    """
    rows = []
    end, torn = 0, b""
    for number, line in _lines(path):
        if not line.endswith(b"\n"):
            torn = line
            break
        end += len(line)
        if number == 1 and form == "csv":
            if _cells(line) != list(columns):
                raise _other_columns(path, number)
            continue
        kept = _kept(line, path, number, form, columns)
        rows.append((kept.key, bool(kept.error)))
    text = torn.decode("utf-8", "replace")
    if not end and form == "csv":
        if not csv_line(columns).startswith(text):
            raise _other_columns(path, 1)
        return Looked(tuple(rows), 0, "", None)
    return Looked(tuple(rows), end, text, _torn_key(torn, form, columns))


def whole_rows(path: str, form: str, columns: Sequence[str]) -> Iterator[Kept]:
    """The rows of a file that was looked at."""
    for number, line in _lines(path):
        if line.endswith(b"\n") and not (number == 1 and form == "csv"):
            yield _kept(line, path, number, form, columns)


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    with open(path, "rb") as file:
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise _no_row(path, number)
            yield number, line


def _kept(line: bytes, path: str, number: int, form: str, columns: Sequence[str]) -> Kept:
    kept = _read(line, form, columns)
    if kept is None:
        raise _no_row(path, number)
    if isinstance(kept, str):
        raise _other_columns(path, number)
    if kept.version not in ("", __version__):
        raise InputError(
            f"{shown_path(path)}: line {number} was planned by version {kept.version[:20]}, this "
            f"is {__version__}; --overwrite, or another --output"
        )
    return kept


def _read(line: bytes, form: str, columns: Sequence[str]) -> Kept | str | None:
    """The row of a line; a text where it has other columns, None where it is none."""
    if form == "csv":
        row = _cells(line)
        if len(row) != len(columns):
            return None
        named = dict(zip(columns, row, strict=True))
    else:
        try:
            named = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(named, dict):
            return None
        if list(named) != list(columns):
            return "other columns"
    return Kept(line, *(str(named[name] or "") for name in (KEY, ERROR, _VERSION)))


def _cells(line: bytes) -> list[str]:
    try:
        (row,) = csv.reader([line.decode("utf-8")], strict=True)
    except (csv.Error, ValueError):
        return []
    return row


def _torn_key(torn: bytes, form: str, columns: Sequence[str]) -> str | None:
    kept = _read(torn, form, columns) if torn else None
    whole = isinstance(kept, Kept) and len(kept.key) == KEY_DIGITS
    return kept.key if isinstance(kept, Kept) and whole else None


KEY_DIGITS = 16
"""As ``keys.row_keys`` makes them."""


def _no_row(path: str, number: int) -> InputError:
    return InputError(
        f"{shown_path(path)}: line {number} is no row of a sweep; --overwrite, or another --output"
    )


def _other_columns(path: str, number: int) -> InputError:
    return InputError(
        f"{shown_path(path)}: line {number} has other columns than this sweep's (other flags or "
        "axes, or no sweep's file at all); --overwrite, or another --output"
    )
