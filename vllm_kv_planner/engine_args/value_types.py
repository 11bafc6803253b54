"""The types of EngineArgs' fields, and of the keys in a flag's JSON object.

Fields have them from their annotations, keys from ``config_keys.json`` beside this file, made from
vLLM 0.33's own classes by ``tools/make_flags.py``. A type there is ``int``, ``float``, ``bool``,
``text``, ``object``, ``null`` or ``any``, with bounds behind a number; the name of a class; or an
object that says ``one of`` these values, ``either`` of these types, ``list of`` or ``object of``
one. Values become what pydantic makes of them where it is not strict: ``"3"`` and ``3.0`` are 3,
``"on"`` is true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import InputError, UnknownNameError, nearest, printable
from ..files.json_file import read_json

if TYPE_CHECKING:
    from .flag_table import Flag


# annotation: exact types that need no second look, and what to call them
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
    found: dict[str, frozenset[type]] = {}
    for name, note in record.__annotations__.items():
        plain = note.removesuffix(" | None")
        found[name] = frozenset((*_PLAIN[plain][0], *((type(None),) if plain != note else ())))
    return found


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


_WHOLE = re.compile(r"\s*[+-]?\d+(_\d+)*(\.0*)?\s*", re.ASCII)
_TRUTH = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
_COMPARED: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    ">=": (lambda a, b: a >= b, "from {} up"),
    ">": (lambda a, b: a > b, "above {}"),
    "<=": (lambda a, b: a <= b, "{} at most"),
    "<": (lambda a, b: a < b, "below {}"),
}
_WORDS = {"bool": "true or false", "text": "a text", "object": "an object", "null": "null"}
_AS_IT_STANDS = {"any": object, "text": str, "object": Mapping, "null": type(None)}
_LONG_CHOICE = 8
_LARGEST_FLOAT = float(1 << 63)


class _NotOfTypeError(Exception):
    """A value that is not of its type."""


def known_part(flag: Flag, value: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an older vLLM's printed object that today's class has and takes."""
    keys = _classes()[flag.keys]
    found: dict[str, Any] = {}
    for key, each in value.items():
        with suppress(InputError):
            if key in keys:
                found |= read_config(flag, {key: each})
    return found


def read_config(flag: Flag, value: Mapping[str, Any]) -> dict[str, Any]:
    """A flag's JSON object with every value in its type, as the flag's class takes it.

    Raises:
        UnknownNameError: A key that the class does not have (its ``extra="forbid"``); says which,
            and the nearest that there is.
        InputError: A value that is not of its type or out of its bounds.
    """
    if flag.keys == "SpeculativeConfig":  # create_speculative_config in arg_utils.py takes both
        value = {key.replace("-", "_"): each for key, each in value.items()}
    return _object(flag.spellings[0], "", flag.keys, value)


@lru_cache(maxsize=1)
def _classes() -> dict[str, Any]:
    found: dict[str, Any] = read_json(__file__, "config_keys.json")["classes"]
    return found


def _object(flag: str, path: str, cls: str, value: Mapping[str, Any]) -> dict[str, Any]:
    forms = _classes()[cls]
    found: dict[str, Any] = {}
    for key, each in value.items():
        name = f"{path}{key}"
        if key not in forms:
            near = nearest(str(key), forms, 1, 0.6)
            hint = f"nearest: {near[0]}" if near else f"valid: {', '.join(forms)}"
            raise UnknownNameError(f"{flag}: vLLM 0.33 has no {printable(name[:60])!r}; {hint}")
        nested = next((c for c in _either(forms[key]) if type(c) is str and c in _classes()), None)
        if nested is not None and isinstance(each, Mapping):
            found[key] = _object(flag, f"{name}.", nested, each)
            continue
        try:
            found[key] = _read(each, forms[key])
        except _NotOfTypeError:
            takes = _words(forms[key], each)
            raise InputError(f"{flag}: {name} is {shown(each)}; vLLM 0.33 takes {takes}") from None
    return found


def _either(form: Any) -> list[Any]:
    found: list[Any] = form.get("either", [form]) if isinstance(form, dict) else [form]
    return found


def _read(value: Any, form: Any) -> Any:
    """The value in its type: as it stands if it can be, else put into the first that takes it."""
    forms = _either(form)
    for each in forms:
        try:
            read = _read_one(value, each)
        except _NotOfTypeError:
            continue
        if type(read) is type(value):
            return read
    for each in forms:
        try:
            return _read_one(value, each)
        except _NotOfTypeError:
            continue
    raise _NotOfTypeError


def _read_one(value: Any, form: Any) -> Any:
    if isinstance(form, dict):
        return _read_parts(value, form)
    kind, *bounds = form.split()
    if kind == "bool":
        return _truth(value)
    if kind in ("int", "float"):
        number = _number(value, kind)
        if all(_COMPARED[sign][0](number, limit) for sign, limit in map(_bound, bounds)):
            return number
    elif isinstance(value, _AS_IT_STANDS.get(kind, ())):
        return value
    raise _NotOfTypeError


def _truth(value: Any) -> bool:
    """``"on"``, ``1`` and ``1.0`` as true."""
    if isinstance(value, str):
        value = _TRUTH.get(value.lower())
    if not isinstance(value, (int, float)) or value not in (0, 1):
        raise _NotOfTypeError
    return bool(value)


def _number(value: Any, kind: str) -> int | float:
    """``"3"``, ``3.0`` and ``True`` as numbers."""
    if not isinstance(value, (int, float, str)):
        raise _NotOfTypeError
    try:
        if kind == "float":
            return float(value)
        if isinstance(value, str):
            if not _WHOLE.fullmatch(value):
                raise _NotOfTypeError
            return int(value.partition(".")[0])
        if value != int(value) or (isinstance(value, float) and abs(value) >= _LARGEST_FLOAT):
            raise _NotOfTypeError
        return int(value)
    except (ValueError, OverflowError):
        raise _NotOfTypeError from None


def _bound(text: str) -> tuple[str, float]:
    sign = text.rstrip("0123456789.-")
    return sign, float(text[len(sign) :])


def _read_parts(value: Any, form: Mapping[str, Any]) -> Any:
    """One of some values, or a list or an object of a type."""
    if "one of" in form:
        if any(value == each and type(value) is type(each) for each in form["one of"]):
            return value
        raise _NotOfTypeError
    if not isinstance(value, (list, tuple) if "list of" in form else Mapping):
        raise _NotOfTypeError
    if len(value) < form.get("least", 0) or len(value) != form.get("length", len(value)):
        raise _NotOfTypeError
    if isinstance(value, Mapping):
        return {key: _read(each, form["object of"]) for key, each in value.items()}
    return type(value)(_read(each, form["list of"]) for each in value)


def _words(form: Any, given: Any = None) -> str:
    """What a type takes, for a message; of many names those that are near the given one."""
    if isinstance(form, str):
        kind, *bounds = form.split()
        words = {"int": "a whole number", "float": "a number"}.get(kind) or _WORDS.get(kind, "")
        said = (_COMPARED[sign][1].format(f"{limit:g}") for sign, limit in map(_bound, bounds))
        return " ".join([words or f"an object ({', '.join(_classes().get(kind, ()))})", *said])
    if "either" in form:
        return " or ".join(_words(each, given) for each in form["either"])
    if "one of" in form:
        names = [str(each) for each in form["one of"]]
        if len(names) <= _LONG_CHOICE:
            return f"one of {', '.join(names)}"
        near = nearest(str(given), names, 3, 0.4)
        return f"one of {', '.join([*near, *names][:_LONG_CHOICE])}, …"
    if "list of" in form:
        of = _words(form["list of"])
        return f"a list of {form.get('length', '')} values, each {of}".replace("of  ", "of ")
    return f"an object with values, each {_words(form['object of'])}"
