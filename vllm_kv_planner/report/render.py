"""A document as text, Markdown or HTML, a table as CSV; none ends with a newline."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import IO

from .document import Block, Chart, Code, Document, Figures, Section, Table, head_and_cells, safe

CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


def wants_colour(stream: IO[str]) -> bool:
    """Whether ``stream`` is a terminal whose user did not switch colour off (NO_COLOR)."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str, *, colour: bool) -> str:
    """``text`` in a style of ``CODES``, or as it is."""
    return f"\033[{CODES[style]}m{text}\033[0m" if colour else text


IN_ASCII = str.maketrans("▁▂▃▄▅▆▇█│└─", ".:-=+*%#|+-")
"""A chart's characters where the terminal knows ASCII only."""


def to_text(document: Document, *, colour: bool = False, unicode: bool = False) -> str:
    """Aligned text.

    Args:
        document: What to show.
        colour: Whether the reader is a terminal.
        unicode: Whether it can show a chart's bars.
    """
    document = safe(document)
    rows = [row for block in _blocks(document) if isinstance(block, Figures) for row in block.rows]
    widths = (
        max((len(label) for label, _, _ in rows), default=0),
        max((len(value) for _, value, meaning in rows if meaning), default=0),
    )

    def lines(section: Section) -> Iterator[str]:
        if section.title:
            yield paint(section.title, section.style, colour=colour and section.style != "")
        indent = "  " if section.title else ""
        for block in section.body:
            if isinstance(block, Table):
                yield from _table_text(block, colour=colour)
            elif isinstance(block, Figures):
                yield from (indent + _figure(row, widths, colour=colour) for row in block.rows)
            else:
                drawn = isinstance(block, Chart) and not unicode
                yield from (each.translate(IN_ASCII) if drawn else each for each in block.lines)

    parts = ("\n".join(lines(section)) for section in document.sections)
    return "\n\n".join(part for part in parts if part)


def _blocks(document: Document) -> Iterator[Block]:
    return (block for section in document.sections for block in section.body)


def _figure(row: tuple[str, str, str], widths: tuple[int, int], *, colour: bool) -> str:
    label, value, meaning = row
    start = f"{label:<{widths[0]}}  "
    if not meaning:
        return start + value
    return f"{start}{value:<{widths[1]}}  {paint(meaning, 'dim', colour=colour)}"


def _table_text(table: Table, *, colour: bool) -> Iterator[str]:
    """Columns under a bold header, numbers to the right."""
    rows = head_and_cells(table)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = [each.form == "text" for each in table.columns]
    for number, row in enumerate(rows):
        padded = (
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(row, widths, left, strict=True)
        )
        line = (" " * table.indent + "  ".join(padded)).rstrip()
        yield line if number else paint(line, "bold", colour=colour)


def to_markdown(document: Document) -> str:
    """Markdown: a heading over a table, a bold title over anything else, lines as lists."""
    document = safe(document)
    parts = [f"# {document.title}"] if document.title else []
    for section in document.sections:
        title = section.title
        if any(isinstance(block, Figures) for block in section.body):
            title = ""  # it stands in the table's head
        elif any(isinstance(block, Table) for block in section.body):
            title = title and f"## {title}"
        elif section.style:
            title = title and f"**{title}**"
        parts += [title, *(_block_markdown(block, section) for block in section.body)]
    return "\n\n".join(part for part in parts if part)


def _block_markdown(block: Block, section: Section) -> str:
    if isinstance(block, Table):
        right = [each.form != "text" for each in block.columns]
        return _markdown_rows(head_and_cells(block), right)
    if isinstance(block, Figures):
        head = (section.title or "figure", "value", "meaning")
        return _markdown_rows((head, *block.rows), (False, True, False))
    if isinstance(block, Code):
        return "\n".join(("```sh", *block.lines, "```"))
    if isinstance(block, Chart):
        return ""
    return "\n".join(f"- {line.strip()}" for line in block.lines)


def _markdown_rows(rows: Iterable[Iterable[str]], right: Iterable[bool]) -> str:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cell.strip().replace('|', chr(92) + '|') for cell in cells)} |"

    head, *body = map(line, rows)
    rule = line("---:" if each else "---" for each in right)
    return "\n".join((head, rule, *body))


def to_html(document: Document) -> str:
    """HTML for notebooks, every text escaped."""
    from html import escape

    def rows(cells: Iterable[Iterable[str]], name: str) -> str:
        made = ("".join(f"<{name}>{escape(c.strip())}</{name}>" for c in row) for row in cells)
        return "".join(f"<tr>{row}</tr>" for row in made)

    def html(block: Block) -> str:
        if isinstance(block, Table):
            head, *body = head_and_cells(block)
            head_row, body_rows = rows([head], "th"), rows(body, "td")
            return f"<table><thead>{head_row}</thead><tbody>{body_rows}</tbody></table>"
        if isinstance(block, Figures):
            return f"<table><tbody>{rows(block.rows, 'td')}</tbody></table>"
        if isinstance(block, Code | Chart):
            return f"<pre>{escape(chr(10).join(block.lines))}</pre>"
        return f"<ul>{''.join(f'<li>{escape(line.strip())}</li>' for line in block.lines)}</ul>"

    parts = []
    for section in safe(document).sections:
        if section.title:
            title = escape(section.title)
            parts.append(f"<p><b>{title}</b></p>" if section.style else f"<p>{title}</p>")
        parts += map(html, section.body)
    return "".join(parts)


def to_csv(table: Table) -> str:
    """Names and raw values, bytes as integers."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([each.name for each in table.columns])
    writer.writerows(safe(table).rows)
    return out.getvalue().rstrip("\n")
