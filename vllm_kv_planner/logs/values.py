"""Values out of the ``repr`` of a dictionary, a Namespace or a config, whatever else is in it.

The line that lists an engine's arguments is no Python literal as a whole (``<function …>``,
``<CUDAGraphMode.FULL: 2>``), so it is divided at its outermost commas and each value read alone.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

MAX_VALUE = 20_000
MAX_PAIRS = 2_000
MAX_LEVELS = 100
_SIGN = re.compile(r"""['"\[\](){},]""")
_QUOTED = {
    "'": re.compile(r"'[^'\\]*(?:\\.[^'\\]*)*'", re.DOTALL),
    '"': re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL),
}
_CLOSES = {"{": "}", "[": "]", "(": ")"}
_PAIR = re.compile(
    r"""\s*(?:'([A-Za-z_]\w{0,80})'\s?:|"([A-Za-z_]\w{0,80})"\s?:|([A-Za-z_]\w{0,80})=)"""
)


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()


def named_values(text: str, wanted: Container[str] | None = None) -> dict[str, Any]:
    """Names and values of ``{'a': 1}``, ``Namespace(a=1)`` or ``a=1, b=2``; unreadable: ABSENT.

    Of the first pair of each name; of the ``wanted`` ones alone, if given.
    """
    text = text.strip()
    for opening in ("Namespace(", "{"):
        text = text.removeprefix(opening)
    found: dict[str, Any] = {}
    for part in outermost(text):
        named = _PAIR.match(part)
        if named is not None:
            name = named[1] or named[2] or named[3]
            if name not in found and (wanted is None or name in wanted):
                found[name] = read_value(part[named.end() :].strip())
    return found


def outermost(text: str) -> list[str]:
    """``text`` divided at the commas that stand in no bracket and no quotes, up to its end."""
    parts: list[str] = []
    waiting: list[str] = []
    begin = at = 0
    while len(parts) < MAX_PAIRS:
        sign = _SIGN.search(text, at)
        if sign is None:
            at = len(text)
            break
        at, char = sign.start(), sign[0]
        if char in "'\"":
            at = end_of_quoted(text, at)
            continue
        if char in _CLOSES:
            waiting.append(_CLOSES[char])
            if len(waiting) > MAX_LEVELS:  # no value of an engine: what follows is not read
                break
        elif waiting and char == waiting[-1]:
            waiting.pop()
        elif not waiting and char in ")}":
            break
        elif not waiting and char == ",":
            parts.append(text[begin:at])
            begin = at + 1
        at += 1
    return [*parts, text[begin:at]]


def end_of_quoted(text: str, begin: int) -> int:
    """The position behind the quoted text that begins here; the text's end if it has none."""
    found = _QUOTED[text[begin]].match(text, begin)
    return len(text) if found is None else found.end()


def read_value(text: str) -> Any:
    """A literal; a plain word as text; ABSENT where it is neither."""
    import ast
    import warnings

    if not text or len(text) > MAX_VALUE:
        return ABSENT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of "0if", which is no literal either
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text if re.fullmatch(r"[\w./:+-]{1,300}", text) else ABSENT
