"""Read a YAML file nobody vouches for, within bounds of time and memory."""

from __future__ import annotations

import functools
import re
from typing import Any, NoReturn

from ..errors import InputError
from ..masking import HIDDEN, hide_too, is_secret
from .json_file import read_regular_file

LARGEST = 1 << 20
"""Bytes; these files hold a few lines, or some thousand."""
MOST_NODES = 20_000
"""Keys and values, what aliases stand for counted each time."""
MOST_LEVELS = 50
"""Lists and mappings in one another, through aliases too."""
LONGEST_NUMBER = 100
"""Characters of whatever is no text: a number, a date."""


def read_yaml(path: str, flag: str) -> object:
    """What the file holds: plain values, lists and dictionaries; None where it is empty.

    Raises:
        InputError: The file is missing, too large or no YAML, or PyYAML is not installed.
    """
    shown = f"{path[:200]!r}"
    try:
        raw = read_regular_file(path, LARGEST + 1)
        if raw is None:
            raise InputError(f"{flag}: {shown} is not a regular file")
        if len(raw) > LARGEST:
            raise InputError(f"{flag}: {shown} is larger than 1 MiB")
        text = raw.decode("utf-8")
    except OSError as error:
        raise InputError(f"{flag}: cannot read {shown}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{flag}: cannot read {shown}: not UTF-8 text") from None
    except InputError:
        raise
    except ValueError:  # a NUL byte in the name
        raise InputError(f"{flag}: {shown} is not a usable file name") from None
    return parse_yaml(text, flag, shown)


def parse_yaml(text: str, flag: str, shown: str) -> object:
    """What a text holds; ``flag`` and ``shown`` name it in messages.

    Raises:
        InputError: It is too large or no YAML, or PyYAML is not installed.
    """
    if len(text) > LARGEST:
        raise InputError(f"{flag}: {shown} is larger than 1 MiB")
    try:
        import yaml
    except ImportError:
        raise InputError(
            f"{flag} needs PyYAML, which is not installed: pip install pyyaml"
        ) from None
    try:
        content: object = bounded_loader()(text).get_single_data()
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter of odd escapes
        said = _said(error)[:200]
        if any(is_secret(key) for key in _KEY.findall(text)):
            said = _QUOTED.sub(HIDDEN, said)
        raise InputError(f"{flag}: {shown} is not YAML: {said}") from None
    hide_too(content)
    return content


_KEY = re.compile(r"([\w.-]{1,100})[\"']?[ \t]*:")
_QUOTED = re.compile(r"'[^']*'?|\"[^\"]*\"?")


def _said(error: Exception) -> str:
    """What is wrong and where, without the line itself, which may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    said = ", ".join(" ".join(str(part).split()) for part in parts if part)
    return f"{said} (line {mark.line + 1}, column {mark.column + 1})"


@functools.lru_cache(maxsize=1)
def bounded_loader() -> Any:
    """PyYAML's safe loader, written in Python, that counts nodes before it makes values of them.

    An alias costs nothing to write, yet whoever walks the values meets all it stands for; merge
    keys (``<<``) copy it. So each node's size and height are kept with aliases counted in full,
    and what would grow too large is refused before any value is made: making them takes no more
    steps than the nodes counted. A scalar that its tag cannot be made of is one error, whatever
    PyYAML's own code comes upon.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def __init__(self, text: str) -> None:
            super().__init__(text)
            self.nodes = self.levels = 0
            self.sizes: dict[int, tuple[int, int]] = {}  # by id: nodes, height

        def refuse(self, problem: str) -> NoReturn:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, problem, mark)

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.levels += 1
            if self.levels > MOST_LEVELS:
                self.refuse(f"nested deeper than {MOST_LEVELS} levels")
            before, is_alias = self.nodes, self.check_event(yaml.AliasEvent)
            self.nodes += 1
            node = super().compose_node(parent, index)
            if is_alias:
                if id(node) not in self.sizes:
                    self.refuse("an alias refers to what it is a part of")
                size, height = self.sizes[id(node)]
                self.nodes += size
            else:
                children = _children(node)
                height = 1 + max((self.sizes[id(child)][1] for child in children), default=0)
                self.sizes[id(node)] = self.nodes - before, height
            if self.nodes > MOST_NODES:
                self.refuse(f"holds more than {MOST_NODES:,} keys and values")
            if self.levels + height > MOST_LEVELS + 1:
                self.refuse(f"nested deeper than {MOST_LEVELS} levels")
            self.levels -= 1
            return node

        def compose_scalar_node(self, anchor: Any) -> Any:
            node = super().compose_scalar_node(anchor)
            if len(node.value) > LONGEST_NUMBER and node.tag != "tag:yaml.org,2002:str":
                self.refuse(f"{_named(node)} has more than {LONGEST_NUMBER} characters")
            return node

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{_named(node)} makes no sense", node.start_mark
                ) from None

    return Loader


def _children(node: Any) -> list[Any]:
    """The nodes right below."""
    if isinstance(node.value, str):
        return []
    return [each for item in node.value for each in (item if isinstance(item, tuple) else (item,))]


def _named(node: Any) -> str:
    what = repr(node.value[:40]) if isinstance(node.value, str) else "a value"
    return f"{what} as a {str(node.tag)[:60].rsplit(':', 1)[-1]}"
