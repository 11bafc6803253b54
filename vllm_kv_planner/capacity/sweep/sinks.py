"""Where rows go: CSV or JSON lines, whole lines only, so that a kill leaves whole rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from ...errors import InputError

Row = Sequence[Any]
"""Values in the order of the columns; lists and dictionaries where a cell holds several."""
FORMATS = ("csv", "jsonl", "parquet")


class Sink(Protocol):
    """Something that takes rows."""

    def write(self, rows: Iterable[Row]) -> None:
        """Take whole rows; once this returns, a kill does not lose them."""

    def finish(self) -> None:
        """All rows are there."""

    def close(self) -> None:
        """No more rows come, whether all are there or not."""


class Stream(Protocol):
    """A file, or standard output."""

    def write(self, text: str, /) -> object:
        """As of any text file."""

    def flush(self) -> object:
        """As of any text file."""


class Lines:
    """Rows as lines of text."""

    def __init__(self, stream: Stream, form: Callable[[Row], str], head: str = "") -> None:
        self._stream = stream
        self._form = form
        if head:
            self._put(head)

    def write(self, rows: Iterable[Row]) -> None:
        """Take whole rows."""
        self._put("".join(map(self._form, rows)))

    def _put(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def finish(self) -> None:
        """All rows are there: nothing is left to do."""

    def close(self) -> None:
        """Close the file."""
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


def format_of(path: str) -> str:
    """What the end of a file's name asks for.

    Raises:
        InputError: None of ``FORMATS``.
    """
    name = path.rsplit(".", 1)[-1].lower()
    if name not in FORMATS:
        ends = ", ".join(f".{each}" for each in FORMATS)
        raise InputError(f"--output {path[:200]!r}: its name must end in one of {ends}")
    return name


def line_form(form: str, columns: Sequence[str]) -> Callable[[Row], str]:
    """A row as one line of CSV or JSON, line feed included."""
    if form == "csv":
        return csv_line
    encode = json.JSONEncoder().encode
    return lambda row: encode(dict(zip(columns, row, strict=True))) + "\n"


def csv_line(row: Row) -> str:
    """One line; nothing is an empty cell, lists are JSON in theirs."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([flat_cell(value) for value in row])
    return out.getvalue()


def flat_cell(value: Any) -> Any:
    """A cell that holds one value: lists and dictionaries as JSON."""
    return json.dumps(value) if isinstance(value, list | dict | tuple) else value


def text_lines(stream: Stream, form: str, columns: Sequence[str], *, head: bool) -> Lines:
    """Rows as CSV or JSON lines into a stream; ``head``: begin with CSV's header."""
    first = csv_line(columns) if head and form == "csv" else ""
    return Lines(stream, line_form(form, columns), first)
