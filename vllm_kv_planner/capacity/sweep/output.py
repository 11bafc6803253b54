"""Open the file that rows go to: new, overwritten, or continued."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ...errors import InputError
from ...records import dataclass
from .columns import declared_types
from .resume import cut_torn_line, kept_rows, lock, without_errors
from .sinks import Sink, format_of, text_lines


@dataclass(frozen=True, kw_only=True)
class Output:
    """A file of rows.

    Attributes:
        path: Its name; the end says which format (``.csv``, ``.jsonl``, ``.parquet``).
        resume: Rows that are there are kept, and not planned again.
        overwrite: Whatever is there goes.
        retry_errors: With ``resume``: rows with an error are planned again.
    """

    path: str
    resume: bool = False
    overwrite: bool = False
    retry_errors: bool = False

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise InputError("--resume and --overwrite: one of them")
        if self.retry_errors and not self.resume:
            raise InputError("--retry-errors goes with --resume")


def prepare(output: Output, columns: Sequence[str]) -> frozenset[str]:
    """Make the file fit to be continued; the keys of the rows that are in it.

    Raises:
        InputError: It is there and neither to be continued nor overwritten, or it holds
            something else than rows of this sweep.
    """
    form = format_of(output.path)
    lines = rows_file(output.path)
    if form == "parquet":
        from .parquet import need_pyarrow, restore_journal

        need_pyarrow()
    there = [path for path in {output.path, lines} if os.path.lexists(path)]
    for path in there:
        if not os.path.isfile(path):
            raise InputError(f"--output {path[:200]!r} is not a regular file")
        if not (output.resume or output.overwrite):
            raise InputError(
                f"--output: {path[:200]!r} is there already: --resume continues it, "
                "--overwrite begins anew"
            )
    if lines in there:
        with open(lines, "r+", encoding="utf-8") as file:
            lock(file, output.path)  # before anything in it is changed
            if output.overwrite:
                file.truncate(0)
    if output.overwrite:
        return frozenset()
    if form == "parquet" and there == [output.path]:
        restore_journal(output.path, columns)
        there.append(lines)
    if lines not in there:
        return frozenset()
    cut_torn_line(lines)
    text = "csv" if form == "csv" else "jsonl"
    if output.retry_errors:
        without_errors(lines, text, columns)
    keys = [kept.key for kept in kept_rows(lines, text, columns)]
    if len(set(keys)) != len(keys):
        raise InputError(f"{lines}: holds a row twice; --overwrite")
    return frozenset(keys)


def rows_file(path: str) -> str:
    """The file that whole rows are in while a sweep runs."""
    if format_of(path) != "parquet":
        return path
    from .parquet import journal_of

    return journal_of(path)


def open_sink(path: str, names: tuple[str, ...], columns: Sequence[str]) -> Sink:
    """Open the prepared file, to write behind what it holds.

    Raises:
        InputError: Another sweep writes into it.
    """
    form = format_of(path)
    lines = rows_file(path)
    file = open(lines, "a", encoding="utf-8", newline="")  # noqa: SIM115 (the sink closes it)
    lock(file, path)
    text = "csv" if form == "csv" else "jsonl"
    sink = text_lines(file, text, columns, head=file.tell() == 0, is_ours=True)
    if form != "parquet":
        return sink
    from .parquet import ParquetSink

    types = declared_types(names)
    return ParquetSink(path, sink, {name: types[name] for name in columns})
