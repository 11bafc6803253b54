"""The file that rows go to: new, overwritten, or continued after its whole rows."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TextIO

from ...errors import InputError
from ...files.written import cannot_write, check_writable, shown_path, try_lock, whole_file
from ...records import dataclass
from ...version import __version__
from .rows import (
    ERROR,
    KEY,
    ParquetSink,
    Sink,
    csv_line,
    declared_types,
    format_of,
    journal_of,
    look_at_parquet,
    need_pyarrow,
    restore_journal,
    text_lines,
)

if TYPE_CHECKING:
    from .job import Sweep


LONGEST_LINE = 4 << 20
"""Bytes; a row takes some thousand."""
_VERSION = "planner.version"
KEY_DIGITS = 16
"""As ``work.row_keys`` makes them."""


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
        torn: What stands behind them: a row that was never finished.
        torn_key: Its key, where all of it is there but the line feed.
    """

    rows: tuple[tuple[str, bool], ...]
    end: int
    torn: str
    torn_key: str | None


def look(path: str, form: str, columns: Sequence[str]) -> Looked:
    """Read a file of rows to its end; refuses other columns, another version's rows, and damage."""
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
    torn_key = None
    with suppress(InputError):
        key = _read(torn, path, 0, form, columns).key
        torn_key = key if len(key) == KEY_DIGITS else None
    return Looked(tuple(rows), end, text, torn_key)


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
    """The row of a line; refuses what is none, other columns, and another version's."""
    kept = _read(line, path, number, form, columns)
    if kept.version not in ("", __version__):
        raise _refusal(
            path,
            f"line {number} was planned by version {kept.version[:20]}, this is {__version__}",
        )
    return kept


def _read(line: bytes, path: str, number: int, form: str, columns: Sequence[str]) -> Kept:
    if form == "csv":
        row = _cells(line)
        named = dict(zip(columns, row, strict=True)) if len(row) == len(columns) else None
    else:
        try:
            named = json.loads(line)
        except (ValueError, RecursionError):
            named = None
    if not isinstance(named, dict):
        raise _no_row(path, number)
    if list(named) != list(columns):
        raise _other_columns(path, number)
    return Kept(line, *(str(named[name] or "") for name in (KEY, ERROR, _VERSION)))


def _cells(line: bytes) -> list[str]:
    try:
        (row,) = csv.reader([line.decode("utf-8")], strict=True)
    except (csv.Error, ValueError):
        return []
    return row


def _refusal(path: str, why: str) -> InputError:
    return InputError(f"{shown_path(path)}: {why}; --overwrite, or another --output")


def _no_row(path: str, number: int) -> InputError:
    return _refusal(path, f"line {number} is not a row of a sweep")


def _other_columns(path: str, number: int) -> InputError:
    others = "(other flags or axes, or no sweep's file at all)"
    return _refusal(path, f"line {number} has other columns than this sweep's {others}")


@dataclass(frozen=True, kw_only=True)
class Output:
    """A file of rows, and what becomes of those in it: arguments of ``sweep()``."""

    path: str
    resume: bool = False
    overwrite: bool = False
    retry_errors: bool = False

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise InputError("--resume and --overwrite: one of them")
        if self.retry_errors and not self.resume:
            raise InputError("--retry-errors goes with --resume")


def open_output(output: Output, sweep: Sweep) -> tuple[frozenset[str], Sink]:
    """The keys of the rows that are in the file already, and where the others go.

    Refuses a file that is there and neither to be continued nor overwritten, one that holds
    something else than rows of this sweep (it is left as it is), and one that another sweep has.
    """
    form = format_of(output.path)
    lines = rows_file(output.path)
    if form == "parquet":
        need_pyarrow()
    for path in dict.fromkeys((output.path, lines)):
        check_writable(path)
        if os.path.lexists(path) and not (output.resume or output.overwrite):
            raise InputError(
                f"--output: {shown_path(path)!r} is there already: --resume continues it, "
                "--overwrite begins anew"
            )
    file = _opened(lines, "r+") if os.path.lexists(lines) else None
    try:
        kept: frozenset[str] = frozenset()
        if not output.overwrite:
            kept, file = _continued(output, sweep, file)
        if file is None:
            file = _opened(lines, "x")
        return kept, _sink(output, sweep, file)
    except BaseException:
        if file is not None:
            file.close()
        raise


def rows_file(path: str) -> str:
    """The file that whole rows are in while a sweep runs."""
    return journal_of(path) if format_of(path) == "parquet" else path


def _opened(path: str, mode: str) -> TextIO:
    """The file, locked: no other sweep may have it."""
    try:
        file: TextIO = open(path, mode, encoding="utf-8", newline="")  # type: ignore[assignment]  # noqa: SIM115
    except OSError as error:
        raise cannot_write(path, error) from None
    if not try_lock(file.fileno()):
        file.close()
        raise InputError(f"--output {shown_path(path)!r}: another sweep writes into it")
    return file


def _continued(
    output: Output, sweep: Sweep, file: TextIO | None
) -> tuple[frozenset[str], TextIO | None]:
    """The keys that are there and the file, cut behind the last whole row.

    First everything is looked at, then something is changed.
    """
    form, lines = format_of(output.path), rows_file(output.path)
    text = "csv" if form == "csv" else "jsonl"
    finished: tuple[tuple[str, bool], ...] = ()
    if form == "parquet" and os.path.lexists(output.path):
        finished = look_at_parquet(output.path, sweep.columns)
    looked = Looked((), 0, "", None) if file is None else look(lines, text, sweep.columns)
    _check(output, sweep, finished, looked)
    if file is None and finished:
        restore_journal(output.path, sweep.columns)
        file = _opened(lines, "r+")
        looked = look(lines, text, sweep.columns)
    keys = frozenset(key for key, _ in looked.rows)
    if file is None:
        return keys, file
    wrong = frozenset(key for key, has_error in looked.rows if has_error)
    if output.retry_errors and wrong:
        file.close()
        _drop(wrong, lines, text, sweep.columns)
        return keys - wrong, _opened(lines, "r+")
    file.truncate(looked.end)
    return keys, file


def _check(
    output: Output, sweep: Sweep, finished: Sequence[tuple[str, bool]], looked: Looked
) -> None:
    lines = rows_file(output.path)
    for path, rows in ((output.path, finished), (lines, looked.rows)):
        keys = frozenset(key for key, _ in rows)
        if len(keys) != len(rows):
            raise InputError(f"{shown_path(path)}: holds a row twice; --overwrite")
        sweep.check_kept(keys, path)
    if looked.torn_key is not None:
        sweep.check_kept(frozenset({looked.torn_key}), lines)
    elif looked.torn and not sweep.has_begun(looked.torn, format_of(output.path)):
        why = "its last line is not a row of this sweep, not even the beginning of one"
        raise _refusal(lines, why)


def _drop(keys: frozenset[str], path: str, form: str, columns: Sequence[str]) -> None:
    """Write the file again without some rows, so that they are tried again."""
    with whole_file(path, binary=True) as file:
        if form == "csv":
            file.write(csv_line(columns).encode())
        for kept in whole_rows(path, form, columns):
            if kept.key not in keys:
                file.write(kept.line)


def _sink(output: Output, sweep: Sweep, file: TextIO) -> Sink:
    form = format_of(output.path)
    file.seek(0, os.SEEK_END)
    head = output.overwrite or file.tell() == 0
    sink = text_lines(
        file,
        "csv" if form == "csv" else "jsonl",
        sweep.columns,
        head=head,
        path=rows_file(output.path),
        anew=output.overwrite,
    )
    if form != "parquet":
        return sink
    types = declared_types(sweep.names)
    return ParquetSink(output.path, sink, {name: types[name] for name in sweep.columns})
