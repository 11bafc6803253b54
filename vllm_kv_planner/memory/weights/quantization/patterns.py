"""A checkpoint's regular expressions: which are run at all, and how much work they may cost.

Whoever wrote the checkpoint wrote the patterns, and Python's ``re`` backtracks. Patterns are few
and short, of a shape that cannot take exponential time, and every distinct name is tried once.
Published checkpoints stay far below each limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ....errors import UnsupportedError
from ....files.json_file import shown

MAX_PATTERNS = 512
MAX_WILDCARDS = 1024
MAX_PATTERN_LENGTH = 200
_MAX_BROAD = 3
_MAX_REPEATS = 8
_WORK = 250_000
_UNIT_OF_WORK = (1, 2, 30, 400)
"""What trying one name may cost, by how many repeats can take any character."""
_MAX_WAYS = 64
"""Of ways through its choices that one text may leave open."""

_QUANTIFIER = re.compile(r"[*+?][?+]?|\{(\d*)(,?)(\d*)\}[?+]?")
_CLASS = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
_DIGIT = re.compile(r"[0-9]")
_PLAIN = re.compile(r"(?:[\w/-]|\\?\.)*", re.ASCII)
"""A text as it stands, where a point may be any character."""


def bounded(patterns: Iterable[str], what: str, most: int = MAX_PATTERNS) -> list[str]:
    """The patterns, distinct.

    Raises:
        UnsupportedError: There are more, or longer ones, than any checkpoint needs.
    """
    found = list(dict.fromkeys(patterns))
    if len(found) > most:
        raise UnsupportedError(
            f"quantization_config: {len(found):,} {what}; the stand-alone planner tries at most "
            f"{most:,}"
        )
    for pattern in found:
        if len(pattern) > MAX_PATTERN_LENGTH:
            raise UnsupportedError(
                f"quantization_config: {shown(pattern)} is longer than the {MAX_PATTERN_LENGTH} "
                f"characters that {what} may have"
            )
    return found


class Pattern:
    """One regular expression, and what trying a name costs.

    Attributes:
        is_shape: It names no digit, so names that differ in digits alone match alike.
        cost: Of trying one name, in units of work.

    Raises:
        UnsupportedError: It is of a shape that may take far too long.
    """

    __slots__ = ("compiled", "cost", "is_shape")

    def __init__(self, text: str) -> None:
        self.cost = _cost(text)
        self.is_shape = _DIGIT.search(text) is None
        self.compiled: re.Pattern[str] | None
        try:
            self.compiled = re.compile(text)
        except (re.error, RecursionError, OverflowError):
            self.compiled = None  # matches nothing here

    def matches(self, name: str) -> bool:
        """Whether it matches from the name's beginning."""
        return self.compiled is not None and self.compiled.match(name) is not None


class Patterns:
    """Regular expressions that names are tried on, every distinct name once."""

    def __init__(self, texts: Iterable[str], what: str = "patterns") -> None:
        patterns = [Pattern(text) for text in bounded(texts, what)]
        numbered = list(enumerate(patterns))
        self._shapes = [(index, each) for index, each in numbered if each.is_shape]
        self._others = [(index, each) for index, each in numbered if not each.is_shape]
        self._known: dict[tuple[bool, str], int | None] = {}
        self._work = _WORK

    def first(self, name: str) -> int | None:
        """Number of the first one that matches.

        Raises:
            UnsupportedError: All the names together cost too much.
        """
        shape = self._tried(True, _DIGIT.sub("0", name), self._shapes)
        other = self._tried(False, name, self._others)
        return other if shape is None else shape if other is None else min(shape, other)

    def _tried(self, is_shape: bool, name: str, patterns: list[tuple[int, Pattern]]) -> int | None:
        if not patterns:
            return None
        key = is_shape, name
        if key not in self._known:
            self._known[key] = self._search(name, patterns)
        return self._known[key]

    def _search(self, name: str, patterns: list[tuple[int, Pattern]]) -> int | None:
        for index, pattern in patterns:
            self._work -= pattern.cost
            if self._work < 0:
                raise UnsupportedError(
                    "quantization_config: trying its patterns on every layer's name takes too long"
                )
            if pattern.matches(name):
                return index
        return None


def _cost(text: str) -> int:
    """Units of work of one name; refuses what may take exponential time.

    A repeated group that holds a choice or another repeat, and two repeats side by side, can
    match the same text in many ways; so can many choices in a row that are open to the same text.
    """
    broad = repeats = 0
    ways = 1
    after_repeat = False
    varies = [False]  # for every open group: it holds a choice or a repeat
    begins = [[0]]  # where its alternatives begin
    position = 0
    while position < len(text):
        start, position = position, _after_atom(text, position)
        inside = False
        if text[start] == "(":
            varies.append(False)
            begins.append([position])
        elif text[start] == "|":
            varies[-1] = True
            begins[-1].append(position)
        elif text[start] == ")" and len(varies) > 1:
            inside = varies.pop()
            varies[-1] = varies[-1] or inside
            ways *= _open_ways(text, begins.pop(), start)
        quantifier = None if text[start] in "(|^$" else _QUANTIFIER.match(text, position)
        if quantifier is None:
            after_repeat = False
            continue
        position = quantifier.end()
        varies[-1] = True
        repeats += 1
        if repeats > _MAX_REPEATS or _QUANTIFIER.match(text, position):
            raise _refused(text)
        if quantifier[0].startswith("?"):
            ways *= 2
        else:
            if inside or after_repeat:
                raise _refused(text)
            broad += text[start : start + 2] != r"\d"
            after_repeat = True
    ways *= _open_ways(text, begins[0], len(text))
    if broad > _MAX_BROAD or ways > _MAX_WAYS:
        raise _refused(text)
    return _UNIT_OF_WORK[broad] * ways


def _open_ways(text: str, begins: list[int], end: int) -> int:
    """How many of a choice's alternatives can match at one place.

    Those that say different letters there exclude each other; any other may match beside all.
    """
    ends = [begin - 1 for begin in begins[1:]] + [end]
    texts = [text[begin:stop] for begin, stop in zip(begins, ends, strict=True)]
    plain = [
        each.replace("\\.", "\0").replace(".", " ").replace("\0", ".")
        for each in texts
        if _PLAIN.fullmatch(each)
    ]
    together = (sum(_begins(each, other) for other in plain) for each in plain)
    return max(together, default=0) + len(texts) - len(plain)


def _begins(text: str, with_: str) -> bool:
    """Whether the one may begin with the other; a space stands for any character."""
    return len(with_) <= len(text) and all(
        a == b or " " in (a, b) for a, b in zip(text, with_, strict=False)
    )


def _after_atom(text: str, position: int) -> int:
    """Past one character, escape, class of characters or head of a group."""
    character = text[position]
    if character == "(":
        return _after_group_head(text, position)
    if character == "[":
        return _after_class(text, position)
    if character == "\\":
        if text[position + 1 : position + 2].isdigit():
            raise _refused(text)  # what an earlier group matched
        return position + 2
    return position + 1


def _after_group_head(text: str, position: int) -> int:
    """Past ``(``, ``(?:``, ``(?=``, ``(?!``, ``(?<=``, ``(?<!``; others are refused."""
    if text[position + 1 : position + 2] != "?":
        return position + 1
    for head in ("(?:", "(?=", "(?!", "(?<=", "(?<!"):
        if text.startswith(head, position):
            return position + len(head)
    raise _refused(text)


def _after_class(text: str, position: int) -> int:
    """Past a class of characters; to the end where it is not closed."""
    found = _CLASS.match(text, position)
    return len(text) if found is None else found.end()


def _refused(text: str) -> UnsupportedError:
    return UnsupportedError(
        f"quantization_config: the pattern {shown(text)} may take far too long to match; the "
        "stand-alone planner does not run it"
    )
