"""Small arithmetic over the keys of a config, as ``shapes.jsonl`` writes it; nothing is evaluated.

What there is: whole and decimal numbers, ``'words'``, names of keys (``a.b`` for a key inside
another, ``a[i]`` for an item of a list), ``+ - * / // %``, ``up(x, m)`` (the next multiple),
``== < >= in``, ``not and or``, brackets. A name that the config does not have is an error where a
number is needed, and false in a condition.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ....errors import ConfigError
from ....files.json_file import shown

Lookup = Callable[[str], Any]
"""The value of a name; None where there is none."""
Node = Callable[[Lookup], Any]

_TOKEN = re.compile(r"\s*(?:([\d.]+)|'([^']*)'|([A-Za-z_$][\w.$]*)|(//|==|>=|[-+*/%<()\[\],]))")
_LARGEST = 10**15
_WORDS = frozenset(("and", "or", "not", "in", "up"))


def number(text: int | str, names: Lookup) -> int:
    """The value of an expression, cut to a whole number.

    Raises:
        ConfigError: A key is absent or no number, or the result is out of bounds.
    """
    return text if isinstance(text, int) else int(_number(text, _parsed(text)(names)))


def holds(text: str, names: Lookup) -> bool:
    """Whether a condition holds."""
    return bool(_parsed(text)(names))


def _number(text: str, value: Any) -> Any:
    if value is None:
        raise ConfigError(f"config.json: {text} is not given")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"config.json: {text} must be a number, is {shown(value)}")
    if not -_LARGEST <= value <= _LARGEST:  # NaN compares false
        raise ConfigError(f"config.json: {text} must be a number within 10^15")
    return value


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Node:
    return _Parser(text).whole()


_SUMS: dict[str, Callable[[Any, Any], Any]] = {"+": lambda a, b: a + b, "-": lambda a, b: a - b}
_PRODUCTS: dict[str, Callable[[Any, Any], Any]] = {
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
}


def _rounded_up(value: Any, multiple: Any) -> Any:
    return -(-value // multiple) * multiple


_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
}


class _Parser:
    """By recursive descent; every part becomes a function of the names' values."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.tokens: list[tuple[str, str]] = []
        while self.at < len(text.rstrip()):
            found = _TOKEN.match(text, self.at)
            if found is None:
                raise ValueError(f"{text!r} is no expression at {self.at}")
            digits, word, name, sign = found.groups()
            kind = "#" if digits else "'" if word is not None else "n" if name else "s"
            self.tokens.append((kind, digits or name or sign or word or ""))
            self.at = found.end()
        self.at = 0

    def whole(self) -> Node:
        made = self.either()
        if self.at < len(self.tokens):
            raise ValueError(f"{self.text!r}: {self.tokens[self.at][1]!r} is not expected")
        return made

    def take(self, *wanted: str) -> str:
        """The next sign or word, if it is one of these."""
        if self.at < len(self.tokens):
            kind, token = self.tokens[self.at]
            if kind in "sn" and token in wanted:
                self.at += 1
                return token
        return ""

    def either(self) -> Node:
        parts = [self.both()]
        while self.take("or"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else lambda names: any(each(names) for each in parts)

    def both(self) -> Node:
        parts = [self.compared()]
        while self.take("and"):
            parts.append(self.compared())
        return parts[0] if len(parts) == 1 else lambda names: all(each(names) for each in parts)

    def compared(self) -> Node:
        left = self.folded(_SUMS, lambda: self.folded(_PRODUCTS, self.single))
        sign = self.take(*_COMPARED, "in")
        if not sign:
            return left
        right = self.folded(_SUMS, lambda: self.folded(_PRODUCTS, self.single))
        if sign == "in":
            return lambda names: left(names) in (right(names) or ())
        if sign == "==":
            return lambda names: left(names) == right(names)
        text, compare = self.text, _COMPARED[sign]
        return lambda names: compare(_number(text, left(names)), _number(text, right(names)))

    def folded(self, signs: dict[str, Any], part: Callable[[], Node]) -> Node:
        start = self.at
        left, says = part(), self.since(start)
        while sign := self.take(*signs):
            start = self.at
            right, also = part(), self.since(start)
            left = _applied(signs[sign], left, right, says, also)
            says = f"{says} {sign} {also}"
        return left

    def since(self, start: int) -> str:
        return " ".join(token for _, token in self.tokens[start : self.at])

    def single(self) -> Node:
        if self.take("not"):
            inner = self.single()
            return lambda names: not inner(names)
        if self.take("("):
            inner = self.either()
            self.expect(")")
            return inner
        if self.take("up"):
            self.expect("(")
            value, start = self.either(), self.at
            self.expect(",")
            multiple = self.either()
            self.expect(")")
            return _applied(_rounded_up, value, multiple, self.text, self.since(start + 1))
        return self.leaf()

    def leaf(self) -> Node:
        if self.at >= len(self.tokens):
            raise ValueError(f"{self.text!r} ends too early")
        kind, token = self.tokens[self.at]
        self.at += 1
        if kind == "#":
            value: Any = float(token) if "." in token else int(token)
            return lambda names: value
        if kind == "'":
            return lambda names: token
        if kind != "n" or token in _WORDS:
            raise ValueError(f"{self.text!r}: {token!r} is not expected")
        if not self.take("["):
            return lambda names: names(token)
        index = self.either()
        self.expect("]")
        return lambda names: _item(token, names(token), index(names))

    def expect(self, sign: str) -> None:
        if not self.take(sign):
            raise ValueError(f"{self.text!r}: no {sign!r}")


def _applied(
    operate: Callable[[Any, Any], Any], left: Node, right: Node, says: str, also: str
) -> Node:
    def applied(names: Lookup) -> Any:
        first, second = _number(says, left(names)), _number(also, right(names))
        try:
            return operate(first, second)
        except ZeroDivisionError:
            raise ConfigError(f"config.json: {also} must not be 0") from None

    return applied


def _item(name: str, values: Any, index: Any) -> Any:
    if values is None:
        return None
    if not isinstance(values, (list, tuple)):
        raise ConfigError(f"config.json: {name} must be a list, is {shown(values)}")
    if not isinstance(index, int) or not 0 <= index < len(values):
        raise ConfigError(f"config.json: {name} has {len(values)} items, none of number {index}")
    return values[index]
