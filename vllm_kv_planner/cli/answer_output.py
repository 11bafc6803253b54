"""An answer in the format asked for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..report.answer import Answer

FORMATS = ("text", "json", "markdown", "csv")


def rendered(answer: Answer, form: str) -> str:
    """The answer in one of ``FORMATS``; no final newline."""
    if form == "json":
        return answer.to_json()
    from ..report.render import to_csv, to_markdown, to_text

    if form == "csv":
        return to_csv(answer.csv_table())
    if form == "markdown":
        return "\n\n".join(map(to_markdown, answer.documents()))
    from ..report.terminal import wants_colour

    colour, unicode = wants_colour(sys.stdout), knows_bars(sys.stdout.encoding)
    return "\n\n".join(to_text(each, colour=colour, unicode=unicode) for each in answer.documents())


def knows_bars(encoding: str | None) -> bool:
    """Whether text in this encoding can hold a chart's characters."""
    try:
        "▁█│".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
