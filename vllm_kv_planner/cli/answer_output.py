"""An answer in the format asked for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..capacity.answer import Answer

FORMATS = ("text", "json", "markdown", "csv")

A = TypeVar("A", bound="Answer")


def rendered(
    answer: A,
    form: str,
    *,
    text: Callable[..., str],
    markdown: Callable[[A], str],
) -> str:
    """The answer as text, JSON, Markdown or CSV; no final newline.

    Args:
        answer: What to show.
        form: One of ``FORMATS``.
        text: The answer for people; takes ``colour``.
        markdown: The same as Markdown.
    """
    if form == "json":
        import json

        return json.dumps(answer.to_dict(), indent=2, allow_nan=False)
    if form == "csv":
        from ..report.table import to_csv

        return to_csv(answer.table())
    if form == "markdown":
        return markdown(answer)
    from ..report.terminal import wants_colour

    return text(answer, colour=wants_colour(sys.stdout))
