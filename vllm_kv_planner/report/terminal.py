"""Colour for terminals only."""

from __future__ import annotations

import os
from typing import IO

CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


def wants_colour(stream: IO[str]) -> bool:
    """Whether ``stream`` is a terminal whose user did not switch colour off (NO_COLOR)."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str, *, colour: bool) -> str:
    """``text`` in a style of ``CODES``, or as it is."""
    return f"\033[{CODES[style]}m{text}\033[0m" if colour else text
