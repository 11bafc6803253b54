"""The ``Document`` that an answer builds, and ``render`` prints in every format.

A document is sections of tables, figures and lines, in no format yet. Nothing here knows what is
shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from ..errors import printable
from ..records import dataclass, fields, is_dataclass, replace
from ..units import GIB


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: Key of programs: CSV header, DataFrame column.
        title: What people read; ``name`` where empty.
        form: ``text``, ``count`` (thousands separated), ``gib`` (bytes shown in GiB), ``times``
            (``3.25x``), ``percent`` (a share of 1).
        value: Reads the cell off a record; None: the record's attribute ``name``.
    """

    name: str
    title: str = ""
    form: str = "text"
    value: Callable[[Any], object] | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns and rows of plain values: ``str``, ``int``, ``float``, ``bool`` or None.

    As text it stands ``indent`` spaces to the right.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    indent: int = 0


@dataclass(frozen=True)
class Figures:
    """Rows of label, value and meaning; aligned over all the figures of a document."""

    rows: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Lines:
    """Lines of text; a list in Markdown and HTML, where leading spaces go."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Code(Lines):
    """Lines for a shell."""


@dataclass(frozen=True)
class Chart(Lines):
    """A drawing of block characters; Markdown leaves it out."""


Block = Table | Figures | Lines


@dataclass(frozen=True)
class Section:
    """Blocks under a title, which may be missing; ``style`` is one of terminals, or empty."""

    title: str = ""
    body: tuple[Block, ...] = ()
    style: str = "bold"


@dataclass(frozen=True, kw_only=True)
class Document:
    """Sections, with an empty line between them; the title is for files, where nothing is above."""

    sections: tuple[Section, ...]
    title: str = ""


def lines_of(lines: Iterable[str]) -> Section:
    """A section of lines alone."""
    return Section(body=(Lines(tuple(lines)),))


def noted(notes: Iterable[str]) -> Iterator[str]:
    """Notes as lines."""
    return (f"note: {each}" for each in notes)


def table_of(records: Iterable[object], columns: Sequence[Column], *, indent: int = 0) -> Table:
    """A row a record, each cell read as its column says."""
    read = [each.value or attrgetter(each.name) for each in columns]
    rows = tuple(tuple(cell(each) for cell in read) for each in records)
    return Table(columns=tuple(columns), rows=rows, indent=indent)


def flat_table(objects: Sequence[dict[str, Any]]) -> Table:
    """A row an object, nested keys joined by dots; a list is JSON in its cell."""
    rows = [dict(_leaves(each, "")) for each in objects]
    return Table(
        columns=tuple(Column(name) for name in rows[0]),
        rows=tuple(tuple(map(row.get, rows[0])) for row in rows),
    )


def _leaves(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            plain = item is None or isinstance(item, str | int | float)
            yield prefix + key, item if plain else json.dumps(item)


def safe(value: Any) -> Any:
    """A document or a part of it in which no text of others steers a terminal.

    Every renderer begins with this, so that nobody who builds a document has to think of it.
    """
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, tuple):
        return tuple(map(safe, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: safe(getattr(value, f.name)) for f in fields(value)})
    return value


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
        return str(value)
    if form in FORMS:
        return FORMS[form](value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def head_and_cells(table: Table) -> list[list[str]]:
    """The header and every row as people read them."""
    forms = [each.form for each in table.columns]
    head = [each.title or each.name for each in table.columns]
    return [head, *(list(map(shown, row, forms)) for row in table.rows)]
