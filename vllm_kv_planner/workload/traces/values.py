"""Token counts and times as traces write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import InputError
from ...files.json_file import shown
from ..lengths import MOST_TOKENS

MOST_SECONDS = 1e11
"""The year 5138 as seconds since 1970; milliseconds since 1970 are beyond it from 1973 on."""

_DATE = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?(Z|[+-]\d\d:?\d\d)?")


def token_count(row: Mapping[str, Any], column: str) -> int:
    """A whole number of tokens, 0 included.

    Raises:
        InputError: It is none.
    """
    value = row.get(column)
    if type(value) is str:
        value = _number_of(value, column)
    if type(value) is float and value.is_integer():  # pandas writes 374.0 where a row is empty
        value = int(value)
    if type(value) is not int or not 0 <= value <= MOST_TOKENS:
        problem = "is missing" if value is None else f"{shown(value)} is no number of tokens"
        raise InputError(f"{column} {problem}: valid: 0 to {MOST_TOKENS:,}")
    return value


def seconds(row: Mapping[str, Any], column: str, unit: float) -> float:
    """A time, as a number of ``unit`` seconds or as a date, in seconds.

    Raises:
        InputError: It is neither, or it is negative.
    """
    value = row.get(column)
    if type(value) is str:
        value = _date(value) if "-" in value[1:] and ":" in value else _number_of(value, column)
        if value is None:
            raise InputError(f"{column} {shown(row[column])} is no date: YYYY-MM-DD HH:MM:SS.f")
    if type(value) not in (int, float) or value is None:
        problem = "is missing" if value is None else f"{shown(value)} is no time"
        raise InputError(f"{column} {problem}")
    if not 0 <= value <= MOST_SECONDS / unit:
        hint = "; in milliseconds? name the column timestamp_ms" if value > 0 else ""
        raise InputError(f"{column} {shown(value)} is out of range{hint}")
    return float(value * unit)


def _number_of(text: str, column: str) -> float | int:
    text = text.strip()
    if len(text) <= 40 and "_" not in text:  # which Python takes for a thousands separator
        try:
            return int(text) if text.isdecimal() else float(text)
        except ValueError:
            pass
    raise InputError(f"{column} {shown(text)} is no number" if text else f"{column} is empty")


def _date(text: str) -> float | None:
    """Seconds since 1970 of an ISO date; without a zone it is UTC, as only differences count."""
    from datetime import datetime, timezone

    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    date, fraction, zone = match.groups()
    try:
        found = datetime.fromisoformat(date).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    since = found.timestamp() + float(f"0.{fraction or 0}")
    if zone and zone != "Z":
        digits = zone[1:].replace(":", "")
        offset = 3600 * int(digits[:2]) + 60 * int(digits[2:])
        since -= offset if zone[0] == "+" else -offset
    return since
