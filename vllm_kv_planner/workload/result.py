"""The answer to a workload: its outcome as a document, a table and plain values."""

from __future__ import annotations

import json
from typing import Any

from ..planning.document import plan_cells
from ..records import dataclass
from ..report.answer import Answer
from ..report.document import (
    Chart,
    Column,
    Document,
    Figures,
    Lines,
    Section,
    Table,
    flat_table,
    lines_of,
    noted,
    table_of,
)
from .chart import chart
from .figures import figures, headline, remarks
from .outcome import Outcome, SeriesPoint


@dataclass(frozen=True, kw_only=True)
class WorkloadResult(Outcome, Answer):
    """A workload that has run to its end."""

    def to_dict(self) -> dict[str, Any]:
        """As ``Answer.to_dict``; ``series`` is one list a column."""
        series = {
            name: [getattr(point, name) for point in self.series] for name in SeriesPoint._fields
        }
        derived = {"prefix_hit_rate": self.prefix_hit_rate, "seconds": self.seconds}
        return {**super().to_dict(), **derived, "series": series}

    def table(self) -> Table:
        """One row a figure: name, value, meaning."""
        name = Column("figure", value=lambda each: each.name)
        return table_of(figures(self), (name, Column("value", form="count"), Column("meaning")))

    def csv_table(self) -> Table:
        """One row of all that ``to_dict()`` has, but for the series."""
        plain = self.to_dict()
        del plain["series"]
        plain["limits"] = json.dumps(plain["limits"])  # which there are differs from run to run
        plain["plan"] = plan_cells(self.plan)
        return flat_table([plain])

    def series_table(self) -> Table:
        """The course of it, a row a point; ``block_use`` is a share of 1."""
        names = (*SeriesPoint._fields, "block_use")
        most = max(1, self.usable_blocks)
        rows = tuple((*point, f"{point.used_blocks / most:.4f}") for point in self.series)
        return Table(columns=tuple(map(Column, names)), rows=rows)

    def document(self, requests: tuple[str, ...] = ()) -> Document:
        """The answer in sentences, its course as a chart, every figure, and notes.

        Args:
            requests: What the requests were, a line each.
        """
        first, *more = headline(self)
        rows = tuple((each.label, each.text, each.meaning) for each in figures(self) if each.label)
        return Document(
            title=f"Workload of {self.plan.model.id} on {self.plan.gpu.name}",
            sections=(
                Section(first, (Lines(tuple(more)),)),
                lines_of(requests),
                Section(body=(Chart(tuple(chart(self))),)),
                Section(body=(Figures(rows),)),
                lines_of(noted(remarks(self))),
            ),
        )


@dataclass(frozen=True, kw_only=True)
class WorkloadReport(Answer):
    """A result beside what was asked for.

    Attributes:
        result: What came out.
        asked: The source of the requests, as plain values.
        requests: The same for people, a line each.
    """

    result: WorkloadResult
    asked: dict[str, Any]
    requests: tuple[str, ...]

    def table(self) -> Table:
        """The result's."""
        return self.result.table()

    def csv_table(self) -> Table:
        """The result's."""
        return self.result.csv_table()

    def document(self) -> Document:
        """The result's, with what the requests were."""
        return self.result.document(self.requests)

    def to_dict(self) -> dict[str, Any]:
        """The result's, with what was asked for."""
        plain = self.result.to_dict()
        return {"schema_version": plain.pop("schema_version"), "workload": self.asked, **plain}
