"""Rows of a sweep: their columns, and the lines of CSV or JSON that they go to.

A row has the set-up's names, then the plan's figures by the names of its CSV. Lines are written
whole, so that a kill leaves whole rows.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TextIO

from ...engine_args.engine_args import EngineArgs
from ...errors import InputError, printable
from ...files.written import cannot_write, shown_path, whole_file
from ...planning import types as plan_types
from ...records import as_plain, fields, is_dataclass

KEY = "key"
"""The last column: what ``--resume`` knows the row by."""
ERROR = "error"
"""Why there is no plan; empty where there is one."""
FITS = "fits"


class Column(NamedTuple):
    """One figure of the plan: its name, dots included, and the type it is declared with."""

    name: str
    declared: str


@cache
def plan_columns() -> tuple[Column, ...]:
    """Every leaf of a plan but ``fits``, which comes first; lists and provenance are one cell."""
    return tuple(each for each in _leaves(plan_types.Plan, "") if each.name != FITS)


def _leaves(record: Any, prefix: str) -> Iterator[Column]:
    for each in fields(record):
        declared: str = record.__annotations__[each.name]
        inner = getattr(plan_types, declared, None)
        if is_dataclass(inner):
            yield from _leaves(inner, f"{prefix}{each.name}.")
        else:
            yield Column(prefix + each.name, declared)


@cache
def figures() -> Callable[[plan_types.Plan], tuple[Any, ...]]:
    """Reads ``fits`` and the plan's columns."""
    return attrgetter(FITS, *(each.name for each in plan_columns()))


def all_columns(names: tuple[str, ...]) -> tuple[str, ...]:
    """The header of a sweep over ``names``."""
    return (*names, FITS, ERROR, *(each.name for each in plan_columns()), KEY)


def declared_types(names: tuple[str, ...]) -> dict[str, str]:
    """The type of every column, as it is declared in the code."""
    texts = dict.fromkeys(names, "str")
    flags = {name: EngineArgs.__annotations__.get(name, "str") for name in names}
    own = {FITS: "bool", ERROR: "str", KEY: "str"}
    return {**texts, **flags, **own, **{each.name: each.declared for each in plan_columns()}}


def plain(value: Any) -> Any:
    """A cell's value: printable text, numbers as they are, records and tuples as lists."""
    if isinstance(value, str):
        return printable(value)
    if value is None or isinstance(value, int | float):
        return value
    return as_plain(value)


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


class Lines:
    """Rows as lines of text."""

    def __init__(
        self,
        stream: TextIO,
        form: Callable[[Row], str],
        head: str = "",
        *,
        path: str | None = None,
        anew: bool = False,
    ) -> None:
        """Nothing is written yet.

        ``head`` stands before the first row. ``path`` names the file, which is closed in the end;
        None: the stream is the caller's. ``anew``: what it holds is dropped once there is a row.
        """
        self._stream, self._form, self._head = stream, form, head
        self._path, self._anew = path, anew

    def write(self, rows: Iterable[Row]) -> None:
        """Take whole rows."""
        text = self._head + "".join(map(self._form, rows))
        try:
            if self._anew:
                self._stream.seek(0)
                self._stream.truncate()
            self._stream.write(text)
            self._stream.flush()
        except OSError as error:
            if self._path is None:
                raise
            raise cannot_write(self._path, error) from None
        self._head, self._anew = "", False

    def finish(self) -> None:
        """All rows are there."""
        self.write([])

    def close(self) -> None:
        """Close the file."""
        if self._path is not None:
            with suppress(OSError):  # told when it was written
                self._stream.close()


def format_of(path: str) -> str:
    """What the end of a file's name asks for."""
    name = path.rsplit(".", 1)[-1].lower()
    if name not in FORMATS:
        ends = ", ".join(f".{each}" for each in FORMATS)
        raise InputError(f"--output {shown_path(path)!r}: its name must end in one of {ends}")
    return name


def line_form(form: str, columns: Sequence[str]) -> Callable[[Row], str]:
    """A row as one line of CSV or JSON, line feed included."""
    if form == "csv":
        return csv_line
    encode = json.JSONEncoder(default=str).encode
    return lambda row: encode(dict(zip(columns, row, strict=True))) + "\n"


def csv_line(row: Row) -> str:
    """One line; nothing is an empty cell, lists are JSON in theirs."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([flat_cell(value) for value in row])
    return out.getvalue()


def flat_cell(value: Any) -> Any:
    """A cell that holds one value: lists and dictionaries as JSON."""
    return json.dumps(value, default=str) if isinstance(value, list | dict | tuple) else value


def text_lines(
    stream: TextIO,
    form: str,
    columns: Sequence[str],
    *,
    head: bool = True,
    path: str | None = None,
    anew: bool = False,
) -> Lines:
    """Rows as ``csv`` (with its header, if ``head``) or ``jsonl`` into a stream; see ``Lines``."""
    first = csv_line(columns) if head and form == "csv" else ""
    return Lines(stream, line_form(form, columns), first, path=path, anew=anew)


GROUP_ROWS = 20_000
"""Rows of a row group: what is held in memory when the file is made."""


def journal_of(path: str) -> str:
    """The file that holds the rows until all are there."""
    return f"{path}.partial.jsonl"


def need_pyarrow() -> None:
    """Refuse before anything is planned, where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise InputError("Parquet needs pyarrow: pip install pyarrow, or name a .csv") from None


class ParquetSink:
    """Rows into a journal of JSON lines; ``finish`` makes the Parquet file of it.

    A Parquet file cannot be read before its footer is written, so a kill would lose it all. The
    journal, ``ROWS.parquet.partial.jsonl``, holds whole rows at every moment; it is what
    ``--resume`` continues, and it goes once the Parquet file is there.
    """

    def __init__(self, path: str, journal: Sink, types: Mapping[str, str]) -> None:
        self._path, self._journal, self._types = path, journal, types

    def write(self, rows: Iterable[Row]) -> None:
        """Take whole rows."""
        self._journal.write([[flat_cell(value) for value in row] for row in rows])

    def finish(self) -> None:
        """Make the file in place of an older one, then drop the journal."""
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        self._journal.finish()
        schema, journal = schema_of(self._types), journal_of(self._path)
        with (
            open(journal, encoding="utf-8") as lines,
            whole_file(self._path, binary=True) as file,
            ParquetWriter(file, schema) as writer,
        ):
            while group := [json.loads(line) for line in islice(lines, GROUP_ROWS)]:
                typed = [_typed(row, schema) for row in group]
                writer.write_table(pyarrow.Table.from_pylist(typed, schema))
        os.remove(journal)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def schema_of(types: Mapping[str, str]) -> Any:
    """Arrow's types of the columns; what is neither number nor truth is text."""
    import pyarrow

    known = {"int": pyarrow.int64(), "float": pyarrow.float64(), "bool": pyarrow.bool_()}
    plain = {name: declared.removesuffix(" | None") for name, declared in types.items()}
    return pyarrow.schema([(name, known.get(plain[name], pyarrow.string())) for name in plain])


def _typed(row: Mapping[str, Any], schema: Any) -> dict[str, Any]:
    """Numbers in a text column as text: an axis of a flag that takes either."""
    return {
        each.name: str(value) if each.type == "string" and value is not None else value
        for each in schema
        for value in (row[each.name],)
    }


def look_at_parquet(path: str, columns: Sequence[str]) -> tuple[tuple[str, bool], ...]:
    """The keys of a finished file's rows, and whether each has an error."""
    with _opened(path, columns) as old:
        batches = old.iter_batches(GROUP_ROWS, columns=[KEY, ERROR])
        rows = [row for batch in batches for row in batch.to_pylist()]
    return tuple((str(row[KEY]), bool(row[ERROR])) for row in rows)


def restore_journal(path: str, columns: Sequence[str]) -> None:
    """The journal of a finished file that was looked at, to be continued."""
    line = line_form("jsonl", columns)
    with _opened(path, columns) as old, whole_file(journal_of(path)) as file:
        for batch in old.iter_batches(GROUP_ROWS):
            file.writelines(line(list(row.values())) for row in batch.to_pylist())


@contextmanager
def _opened(path: str, columns: Sequence[str]) -> Iterator[Any]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as old:
            if old.schema_arrow.names != list(columns):
                raise InputError(
                    f"{shown_path(path)}: other columns than this sweep's (other flags or axes, or "
                    "no sweep's file at all); --overwrite, or another --output"
                )
            yield old
    except pyarrow.ArrowException as error:
        first = str(error).split("\n")[0][:100]
        raise InputError(f"{shown_path(path)}: no Parquet file ({first}); --overwrite") from None
