"""One table of types for the fields of EngineArgs, made from its own annotations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from ..errors import InputError

# annotation: exact types that need no second look, and what to call them
_NONE = type(None)
_PLAIN: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"),
    "UsageContext": ((str,), "text"),
    "bool": ((bool,), "True or False"),
    "int": ((int,), "a whole number"),
    "float": ((float, int), "a number"),
    "JsonDict": ((dict,), "a dictionary"),
    "tuple[str, ...]": ((tuple,), "a list of texts"),
    "tuple[int, ...]": ((tuple,), "a list of whole numbers"),
}
_ITEMS: dict[str, type] = {"tuple[str, ...]": str, "tuple[int, ...]": int}


def flag_name(field: str) -> str:
    """The command-line spelling of a field: ``max_num_seqs`` to ``--max-num-seqs``."""
    return "--" + field.replace("_", "-")


def of_type(value: Any, annotation: str, name: str, *, null: bool = True) -> None:
    """Refuse an argument of the Python API that is not of this kind.

    Args:
        value: What was given.
        annotation: ``str``, ``int`` or ``float``, as the fields are annotated.
        name: What to call it.
        null: Whether None will do.

    Raises:
        InputError: It is something else.
    """
    types, words = _PLAIN[annotation]
    if type(value) not in types and not (null and value is None):
        raise InputError(f"{name}: {shown(value)} is not {words}")


def check_types(args: Any) -> None:
    """Raise InputError for the first field whose value is not what its annotation says."""
    record: Any = type(args)
    exact = _exact_types(record)
    for name, value in vars(args).items():
        kind = type(value)
        if kind not in exact[name] or (value and (kind is tuple or kind is dict)):
            _look_closer(name, value, record.__annotations__[name])


@lru_cache(maxsize=1)
def _exact_types(record: Any) -> dict[str, frozenset[type]]:
    notes = record.__annotations__
    return {name: frozenset(_allowed(note)) for name, note in notes.items()}


def _allowed(note: str) -> tuple[type, ...]:
    plain = note.removesuffix(" | None")
    return _PLAIN[plain][0] + ((_NONE,) if plain != note else ())


def _look_closer(name: str, value: Any, annotation: str) -> None:
    """What is not exactly of the type: subclasses, lists for tuples; and what containers hold."""
    note = annotation.removesuffix(" | None")
    types, words = _PLAIN[note]
    if note in _ITEMS:
        item = _ITEMS[note]
        good = isinstance(value, (list, tuple)) and all(_is(each, (item,)) for each in value)
    elif note == "JsonDict":
        good = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
        words = "a dictionary with texts as keys" if isinstance(value, Mapping) else words
        if good and not _can_be_shown(value):
            raise InputError(f"{flag_name(name)}: nested too deep, or numbers of too many digits")
    else:
        good = _is(value, types)
    if not good:
        raise InputError(f"{flag_name(name)}: {shown(value)} is not {words}")


def _is(value: Any, types: Iterable[type]) -> bool:
    # True is an int to Python, and nobody's number
    return isinstance(value, tuple(types)) and (bool in types or not isinstance(value, bool))


def _can_be_shown(value: Any) -> bool:
    try:
        repr(value)
    except (ValueError, RecursionError):
        return False
    return True


def shown(value: Any) -> str:
    """A value for a message: its ``repr``, kept short."""
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of more than 60 digits"
    try:
        text = repr(value)
    except Exception:  # objects may do as they like
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:80] + "…"
