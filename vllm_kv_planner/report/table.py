"""One table, printed as text, Markdown, CSV, JSON rows or HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..errors import printable
from ..records import dataclass
from ..units import GIB
from .terminal import paint


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column.

    Attributes:
        name: Key of programs: CSV header, DataFrame column.
        title: What people read; ``name`` where empty.
        form: ``text``, ``count`` (thousands separated), ``gib`` (bytes shown in GiB), ``times``
            (``3.25x``), ``percent`` (a share of 1).
    """

    name: str
    title: str = ""
    form: str = "text"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns and rows of plain values: ``str``, ``int``, ``float``, ``bool`` or None."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]


def _gib(value: float) -> str:
    """Small sizes keep the digits that still tell something."""
    return f"{value:,.2f} GiB" if not 0 < abs(value) < 0.1 else f"{value:.3f} GiB"


FORMS: dict[str, Callable[[float], str]] = {
    "gib": lambda value: _gib(value / GIB),
    "times": lambda value: f"{value:,.2f}x",
    "percent": lambda value: f"{100 * value:.1f} %",
}


def shown(value: object, form: str) -> str:
    """A cell for people; unknown is a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return printable(str(value))
    if form in FORMS:
        return FORMS[form](value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def cells(table: Table) -> list[list[str]]:
    """Every row as people read it."""
    forms = [each.form for each in table.columns]
    return [[shown(v, form) for v, form in zip(row, forms, strict=True)] for row in table.rows]


def titles(table: Table) -> list[str]:
    """The header as people read it."""
    return [each.title or each.name for each in table.columns]


def to_text(table: Table, *, colour: bool = False) -> str:
    """Aligned columns under a bold header, numbers to the right; no final newline."""
    head, body = titles(table), cells(table)
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    left = [each.form == "text" for each in table.columns]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(row, widths, left, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([paint(line(head), "bold", colour=colour), *map(line, body)])


def to_markdown(table: Table) -> str:
    """A Markdown table; no final newline."""

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"

    rule = ["---" if each.form == "text" else "---:" for each in table.columns]
    return "\n".join([line(titles(table)), line(rule), *map(line, cells(table))])


def to_csv(table: Table) -> str:
    """Names and raw values (bytes as integers); no final newline."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([each.name for each in table.columns])
    writer.writerows([[plain_text(value) for value in row] for row in table.rows])
    return out.getvalue().rstrip("\n")


def plain_text(value: object) -> object:
    """A value whose text cannot steer a terminal."""
    return printable(value) if isinstance(value, str) else value


def to_html(table: Table) -> str:
    """A table for notebooks."""
    return "".join(html_parts(table))


def html_parts(table: Table) -> Iterator[str]:
    """The table, element by element, with every text escaped."""
    from html import escape

    yield "<table><thead><tr>"
    yield from (f"<th>{escape(title)}</th>" for title in titles(table))
    yield "</tr></thead><tbody>"
    for row in cells(table):
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</tbody></table>"


def as_records(table: Table) -> list[dict[str, Any]]:
    """Every row as a dictionary by column name."""
    names = [each.name for each in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]
