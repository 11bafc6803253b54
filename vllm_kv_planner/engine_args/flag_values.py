"""How the text behind a flag is read: the types of ``vllm_flags.json``.

Source: ``_compute_kwargs`` and the functions before it in vllm/engine/arg_utils.py (0.33).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from typing import Any

from ..errors import InputError
from .flag_table import Flag
from .quantities import parse_quantity, parse_quantity_or_auto

_BARE_QUANTITY = re.compile(r"\b\d+(?:\.\d+)?[kKmMgGtT]\b")
_JSON_STRING = re.compile(r'("(?:[^"\\]|\\.)*")')


def reader_of(flag: Flag) -> Callable[[str], Any]:
    """The function argparse calls on each value; it raises ArgumentTypeError, one line."""
    read = _READERS[flag.type]

    def reader(text: str) -> Any:
        if flag.can_unset and text in ("", "None"):
            return None
        try:
            value = read(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        if flag.choices and value not in flag.choices:
            valid = ", ".join(str(choice) for choice in flag.choices)
            raise argparse.ArgumentTypeError(f"{text[:40]!r}; valid: {valid}")
        return value

    return reader


def metavar_of(flag: Flag) -> str:
    """What ``--help`` writes for the value."""
    if flag.choices and len(flag.choices) <= 6:
        return "{" + ",".join(str(choice) for choice in flag.choices) + "}"
    return {"int": "N", "float": "X", "quantity": "N[kKmMgG]", "json": "JSON"}.get(
        flag.type, flag.type.upper().replace("_OR_", "|")
    )


def _read_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{text[:40]!r} is not a whole number") from None


def _read_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text[:40]!r} is not a number") from None


def _read_json_value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{text[:60]!r} is not JSON ({str(error)[:60]})") from None


def _read_json(text: str) -> Any:
    value = _read_json_value(text)
    if not isinstance(value, dict):
        raise InputError(f"{text[:60]!r} is not a JSON object")
    return value


def _read_config(text: str) -> Any:
    """A JSON object in which bare numbers may carry a suffix: ``{"cpu_bytes": 80g}``.

    As ``_expand_json_human_readable_numbers`` in vllm/engine/arg_utils.py (0.33).
    """
    parts = _JSON_STRING.split(text)
    for i in range(0, len(parts), 2):  # what stands outside strings
        parts[i] = _BARE_QUANTITY.sub(lambda m: str(parse_quantity(m.group())), parts[i])
    return _read_json("".join(parts))


def _read_json_or_text(text: str) -> Any:
    if text.lstrip().startswith("{"):
        return _read_json(text)
    raise InputError(f"{text[:60]!r}: only a JSON object can be planned for")


_READERS: dict[str, Callable[[str], Any]] = {
    "text": str,
    "lower_text": lambda text: text.lower().replace("-", "_"),
    "int": _read_int,
    "float": _read_float,
    "quantity": parse_quantity,
    "quantity_or_auto": parse_quantity_or_auto,
    "json": _read_json,
    "json_value": _read_json_value,
    "json_or_text": _read_json_or_text,
    "config": _read_config,
}
