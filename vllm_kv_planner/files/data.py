"""Data files that lie beside the code, read without importing the machinery for it."""

from __future__ import annotations

import json
import os
from typing import Any


def read_json(beside: str, name: str) -> Any:
    """The JSON file ``name`` in the folder of the module file ``beside`` (its ``__file__``)."""
    with open(os.path.join(os.path.dirname(beside), name), encoding="utf-8") as file:
        return json.load(file)


def find_line(beside: str, name: str, key: str) -> dict[str, Any] | None:
    """The object on the line of a ``.jsonl`` file whose ``id`` is ``key``, or None.

    ``key`` is in lower case; ids are matched without regard to case.
    """
    text = lines_text(beside, name)
    # Lower-casing ASCII moves nothing, so offsets into one copy hold in the other.
    lowered = lines_text(beside, name, lowered=True)
    start = lowered.find(b'\n{"id":' + json.dumps(key).encode() + b",")
    if start < 0:
        return None
    found: dict[str, Any] = json.loads(text[start + 1 : text.find(b"\n", start + 1)])
    return found


def lines_text(beside: str, name: str, *, lowered: bool = False) -> bytes:
    """The bytes of a ``.jsonl`` file, read once; as they are, or in lower case."""
    if name not in _LOADED:
        with open(os.path.join(os.path.dirname(beside), name), "rb") as file:
            text = file.read()
        _LOADED[name] = text, text.lower()
    return _LOADED[name][lowered]


_LOADED: dict[str, tuple[bytes, bytes]] = {}
