"""What a sweep did: its rows, or their counts where they went into a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...records import dataclass
from ...report.answer import Answer
from ...report.document import Column, Table, table_of
from .columns import ERROR, FITS
from .sinks import Row, flat_cell


@dataclass(frozen=True, kw_only=True)
class SweepResult(Answer):
    """What a sweep did.

    Attributes:
        columns: Names of a row's values.
        rows: The rows, in the grid's order; empty where they went into a file.
        output: The file that holds them.
        total: Rows of the sweep.
        kept: Rows that were in the file before.
        fit: Of the rows planned now, engines that fit.
        errors: Of the rows planned now, those without a plan.
        first_error: Why the first of these has none.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    output: str | None
    total: int
    kept: int
    fit: int
    errors: int
    first_error: str | None

    def table(self) -> Table:
        """The rows; where they went into a file, their counts."""
        if self.output is None:
            flat = tuple(tuple(flat_cell(value) for value in row) for row in self.rows)
            return Table(columns=tuple(map(Column, self.columns)), rows=flat)
        counts = (Column(name, form="count") for name in ("total", "kept", "fit", "errors"))
        return table_of([self], (Column("output"), *counts, Column("first_error")))


class Counts:
    """Counts rows as they pass.

    Attributes:
        rows: All of them.
        fit: Engines that fit.
        errors: Rows without a plan.
        first_error: Why the first of these has none.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._fits = columns.index(FITS)
        self._error = columns.index(ERROR)
        self.rows = self.fit = self.errors = 0
        self.first_error: str | None = None

    def add(self, rows: Sequence[Row]) -> None:
        """Count these."""
        self.rows += len(rows)
        for row in rows:
            self.fit += row[self._fits] is True
            if row[self._error] is not None:
                self.errors += 1
                self.first_error = self.first_error or row[self._error]
