"""Rows as one Parquet file, made at the end from a journal of JSON lines beside it.

A Parquet file cannot be read before its footer is written, so a kill would lose it all. The
journal, ``ROWS.parquet.partial.jsonl``, holds whole rows at every moment; it is what ``--resume``
continues, and it goes once the Parquet file is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from ...errors import InputError
from ...files.written import shown_path, whole_file
from .rows import ERROR, KEY, Row, Sink, flat_cell, line_form

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
    """Rows into the journal; ``finish`` makes the Parquet file of it."""

    def __init__(self, path: str, journal: Sink, types: Mapping[str, str]) -> None:
        self._path = path
        self._journal = journal
        self._types = types

    def write(self, rows: Iterable[Row]) -> None:
        """Take whole rows."""
        self._journal.write([[flat_cell(value) for value in row] for row in rows])

    def finish(self) -> None:
        """Make the file, then drop the journal."""
        self._journal.finish()
        write_parquet(self._path, journal_of(self._path), self._types)
        os.remove(journal_of(self._path))

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def write_parquet(path: str, journal: str, types: Mapping[str, str]) -> None:
    """The journal's rows as one file, in place of an older one."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = schema_of(types)
    with (
        open(journal, encoding="utf-8") as lines,
        whole_file(path, binary=True) as file,
        ParquetWriter(file, schema) as writer,
    ):
        while group := [json.loads(line) for line in islice(lines, GROUP_ROWS)]:
            typed = [_typed(row, schema) for row in group]
            writer.write_table(pyarrow.Table.from_pylist(typed, schema))


def schema_of(types: Mapping[str, str]) -> Any:
    """Arrow's types of the columns; what is neither number nor truth is text."""
    import pyarrow

    known = {"int": pyarrow.int64(), "float": pyarrow.float64(), "bool": pyarrow.bool_()}
    text = pyarrow.string()
    return pyarrow.schema(
        [
            (name, known.get(declared.removesuffix(" | None"), text))
            for name, declared in types.items()
        ]
    )


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
