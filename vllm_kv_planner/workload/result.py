"""The answer to a workload: its outcome as a document, a table, plain values and an HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from ..errors import printable
from ..planning.document import plan_cells
from ..records import dataclass
from ..report import Answer
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
from .figures import chart, figures, headline, remarks, resampled
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
        """The answer in sentences, its course as a chart, every figure, and notes."""
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
    """A result beside the source of its requests, as plain values and as lines for people."""

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


LEFT, WIDTH, HEIGHT, GAP = 76, 760, 200, 46
"""Of one panel of the chart, and what lies around it."""
COLUMNS = 380
"""Points of a curve: one for every two pixels."""

LEGEND = 'Requests <tspan class="running">running</tspan> <tspan class="waiting">waiting</tspan>'
SUB = ' class="sub"'
"""Of a label that says more about the line above."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6673; --line: #d5dbe1;
  --used: #3b6fb5; --running: #2a8a58; --waiting: #c2641c; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #9aa5b1; --line: #3a444f;
  --used: #7aa7e0; --running: #5fc08e; --waiting: #e8985a; --paper: #14191f; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 880px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.3em; } .soft, td:last-child, text { color: var(--soft); fill: var(--soft); }
svg { width: 100%; height: auto; } text { font-size: 12px; }
table { border-collapse: collapse; width: 100%; }
td { padding: .2em .8em .2em 0; border-top: 1px solid var(--line); vertical-align: top; }
td:nth-child(2) { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td { overflow-wrap: anywhere; }
td.sub { padding-left: 1.2em; }
@media (max-width: 600px) { td:nth-child(2) { white-space: normal; } text { font-size: 20px; } }
.grid { stroke: var(--line); } .used { fill: var(--used); fill-opacity: .75; }
.running, .waiting { fill: none; stroke-width: 2; stroke-linejoin: round; }
.running { stroke: var(--running); } .waiting { stroke: var(--waiting); }
tspan.running { stroke: none; fill: var(--running); }
tspan.waiting { stroke: none; fill: var(--waiting); }
"""


def to_html(result: Outcome, lines: Sequence[str]) -> str:
    """The whole page; ``lines`` say what the requests were."""
    title = f"Workload of {result.plan.model.id} on {result.plan.gpu.num_gpus} x "
    title = escape(title + result.plan.gpu.name)
    said = headline(result)
    rows = "\n".join(
        f"<tr><td{SUB if each.label[0] == ' ' else ''}>{escape(each.label.strip())}</td>"
        f"<td>{escape(each.text)}</td><td>{escape(each.meaning)}</td></tr>"
        for each in figures(result)
        if each.label
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in remarks(result))
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p><strong>{escape(said[0])}</strong> {escape(" ".join(said[1:]))}</p>
<p class="soft">{"<br>".join(escape(line) for line in lines)}</p>
{svg(result)}
<table>
{rows}
</table>
<ul>{notes}</ul>
</body>
</html>
"""
    return "\n".join(map(printable, page.split("\n")))


def svg(result: Outcome) -> str:
    """Two panels over the same steps: blocks in use, requests running and waiting."""
    if not result.series or not result.usable_blocks:
        return ""
    last = max(result.steps, result.series[-1].step + 1)
    points = resampled(result.series, last, min(COLUMNS, last))
    most = max(1, *(max(point.running, point.waiting) for point in points))
    below = 24 + HEIGHT + GAP
    used = curve([point.used_blocks / result.usable_blocks for point in points], 24)
    right = LEFT + WIDTH
    parts = [
        f'<svg viewBox="0 0 {right + 10} {below + HEIGHT + 26}" role="img" '
        'aria-label="KV blocks in use, requests running and waiting, over engine steps">',
        panel(24, f"KV blocks in use, of {result.usable_blocks:,}", "100 %", "50 %"),
        f'<path class="used" d="M{LEFT},{24 + HEIGHT}L{used}V{24 + HEIGHT}Z"/>',
        panel(below, LEGEND, f"{most:,}", f"{most / 2:,.0f}"),
    ]
    for name in ("waiting", "running"):
        path = curve([getattr(point, name) / most for point in points], below)
        parts.append(f'<path class="{name}" d="M{path}"/>')
    foot = below + HEIGHT + 18
    parts.append(f'<text x="{LEFT}" y="{foot}">0</text>')
    parts.append(f'<text x="{right}" y="{foot}" text-anchor="end">{last:,} steps</text></svg>')
    return "\n".join(parts)


def panel(top: float, title: str, highest: str, middle: str) -> str:
    """Title (as it stands), grid lines and their labels."""
    parts = [f'<text x="{LEFT}" y="{top - 8}">{title}</text>']
    for share, label in ((0.0, highest), (0.5, middle), (1.0, "0")):
        y = top + HEIGHT * share
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y}" y2="{y}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{escape(label)}</text>'
        )
    return "\n".join(parts)


def curve(shares: Sequence[float], top: float) -> str:
    """The path of steps through ``shares``; 1 is the panel's top."""
    width = WIDTH / len(shares)
    steps = (
        f"{LEFT + width * at:.1f},{top + HEIGHT * (1 - min(1.0, share)):.1f}"
        f"H{LEFT + width * (at + 1):.1f}"
        for at, share in enumerate(shares)
    )
    return "L".join(steps)
