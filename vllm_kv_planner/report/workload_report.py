"""What a workload did, in every format: text with a chart, Markdown, JSON, CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import printable
from .table import Column, Table
from .terminal import paint
from .workload_figures import figures, headline, remarks

if TYPE_CHECKING:
    from ..capacity.workload.result import WorkloadResult


def to_text(result: WorkloadResult, lines: list[str], *, colour: bool, unicode: bool) -> str:
    """Sentences, chart, figures, notes; no final newline.

    Args:
        result: What to show.
        lines: What the requests were, a line each.
        colour: Whether the reader is a terminal.
        unicode: Whether it can show bars.
    """
    from .block_chart import chart

    parts = [[paint(each, "bold", colour=colour) for each in headline(result)[:1]]]
    parts[0] += headline(result)[1:]
    parts += [list(map(printable, lines)), chart(result, unicode=unicode)]
    rows = [each for each in figures(result) if each.label]
    label_width = max(len(each.label) for each in rows)
    value_width = max(len(each.text) for each in rows if each.meaning)
    parts.append(
        [
            f"{each.label:<{label_width}}  {each.text:<{value_width if each.meaning else 0}}"
            + (f"  {paint(printable(each.meaning), 'dim', colour=colour)}" if each.meaning else "")
            for each in rows
        ]
    )
    parts.append([f"note: {note}" for note in remarks(result)])
    return "\n\n".join("\n".join(part) for part in parts if part)


def to_markdown(result: WorkloadResult, lines: list[str]) -> str:
    """Sentences, a table of figures and the notes; no final newline."""
    from .table import to_markdown as as_markdown

    columns = (Column(name="figure"), Column(name="value"), Column(name="meaning"))
    rows = tuple(
        (each.label.strip(), each.text, each.meaning) for each in figures(result) if each.label
    )
    parts = [
        f"# Workload of {printable(result.plan.model.id)} on {printable(result.plan.gpu.name)}",
        " ".join([f"**{headline(result)[0]}**", *headline(result)[1:]]),
        "\n".join(f"- {printable(line)}" for line in lines),
        as_markdown(Table(columns=columns, rows=rows)),
        "\n".join(f"- {note}" for note in remarks(result)),
    ]
    return "\n\n".join(part for part in parts if part)


def summary_table(result: WorkloadResult) -> Table:
    """One row a figure, raw values."""
    columns = (Column(name="figure"), Column(name="value", form="count"), Column(name="meaning"))
    rows = tuple((each.name, each.value, each.meaning) for each in figures(result))
    return Table(columns=columns, rows=rows)


def to_json(result: WorkloadResult, asked: dict[str, Any]) -> str:
    """One object: what was asked for, and what came out."""
    import json

    plain = result.to_dict()
    version = plain.pop("schema_version")
    found = {"schema_version": version, "workload": asked, **plain}
    return json.dumps(found, indent=2, allow_nan=False)


def series_csv(result: WorkloadResult) -> str:
    """The course of it, a line a point; no final newline."""
    from ..capacity.workload.result import SeriesPoint

    head = [*SeriesPoint._fields, "block_use"]
    lines = [",".join(head)]
    for point in result.series:
        use = point.used_blocks / max(1, result.usable_blocks)
        lines.append(",".join([*map(str, point), f"{use:.4f}"]))
    return "\n".join(lines)


def to_csv(result: WorkloadResult) -> str:
    """One row under its header, nested keys joined by dots; no final newline."""
    import csv
    import io
    import json

    from .csv_report import flat, whole_cells
    from .table import plain_text

    plain = result.to_dict()
    del plain["series"]
    plain["limits"] = json.dumps(plain["limits"])  # which there are differs from run to run
    plain["plan"] |= whole_cells(result.plan)
    cells = {name: plain_text(value) for name, value in flat(plain, "")}
    out = io.StringIO()
    writer = csv.DictWriter(out, list(cells), lineterminator="\n")
    writer.writeheader()
    writer.writerow(cells)
    return out.getvalue().rstrip("\n")
