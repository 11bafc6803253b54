"""The local file that holds the lessons: read within bounds, written whole or not at all."""

from __future__ import annotations

import json
import os
from typing import Any

from ..errors import ConfigError, InputError
from ..model.json_file import printable, read_config_file
from ..records import fields
from .calibration import Calibration
from .lesson import Lesson

SCHEMA_VERSION = 1
MOST_LESSONS = 500
MOST_BYTES = 1 << 50
_TEXTS = frozenset({"device", "vllm_version", "model", "weights_key", "source", "learned"})
_OPTIONAL_TEXTS = frozenset({"attention_backend", "activation_key"})
_COUNTS = frozenset({"tensor_parallel_size", "pipeline_parallel_size"})


def load(path: str) -> Calibration:
    """The file's lessons.

    Raises:
        InputError: It cannot be read, or is not what ``save`` writes; says where.
    """
    found = read_config_file(path)
    where = printable(path[:200])
    if found.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(f"{where}: not a calibration file of schema_version {SCHEMA_VERSION}")
    rows = found.get("lessons")
    if not isinstance(rows, list) or len(rows) > MOST_LESSONS:
        raise ConfigError(f"{where}: lessons must be a list of at most {MOST_LESSONS}")
    lessons = tuple(_lesson(row, f"{where}: lesson {i}") for i, row in enumerate(rows))
    return Calibration(lessons=lessons, where=where)


def save(path: str, lessons: tuple[Lesson, ...]) -> None:
    """Write the lessons: beside the file first, then in its place.

    Raises:
        InputError: The file cannot be written.
    """
    text = json.dumps(
        {"schema_version": SCHEMA_VERSION, "lessons": [each.to_dict() for each in lessons]},
        indent=1,
    )
    path = os.path.realpath(path)
    beside = f"{path}.{os.getpid()}.part"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with open(beside, "x", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            if os.path.exists(beside):
                os.unlink(beside)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{printable(path[:200])}: cannot be written ({reason})") from None


def merged(old: tuple[Lesson, ...], new: tuple[Lesson, ...]) -> tuple[Lesson, ...]:
    """Old and new lessons; of one start told twice the newer, and never more than are read."""
    again = {each.engine for each in new}
    kept = tuple(each for each in old if each.engine not in again)
    return (*kept, *{each.engine: each for each in new}.values())[-MOST_LESSONS:]


def _lesson(row: Any, where: str) -> Lesson:
    names = [each.name for each in fields(Lesson)]
    if not isinstance(row, dict) or set(row) != set(names):
        raise ConfigError(f"{where}: must hold exactly {', '.join(names)}")
    for name, value in row.items():
        if not _is_valid(name, value):
            raise ConfigError(f"{where}: {name} is not usable")
    lesson = Lesson(**row)
    try:
        _ = lesson.minor
    except InputError:
        raise ConfigError(f"{where}: vllm_version is not usable") from None
    return lesson


def _is_valid(name: str, value: Any) -> bool:
    if name in _TEXTS:
        return isinstance(value, str) and len(value) <= 5000 and value.isprintable()
    if name in _OPTIONAL_TEXTS:
        return value is None or (isinstance(value, str) and len(value) <= 5000)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if name in _COUNTS:
        return whole and 1 <= value <= 1 << 30
    if name == "outside_spread_bytes":
        return whole and 0 <= value <= MOST_BYTES
    return value is None or (whole and -MOST_BYTES <= value <= MOST_BYTES)
