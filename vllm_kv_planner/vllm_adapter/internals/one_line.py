"""A message of vLLM's in one line."""

from __future__ import annotations

import re

_LONGEST = 600


def one_line(text: str) -> str:
    """White space folded, pointers to web pages dropped, cut where it gets too long."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(
        r" (See|For further information visit) https?://\S+( for more details\.?)?", "", text
    )
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
