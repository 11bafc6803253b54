"""The file that holds the records of starts: read within bounds, written whole or not at all."""

from __future__ import annotations

import json
import os

from ..errors import ConfigError, InputError
from ..files.json_file import MAX_FILE_BYTES, read_config_file
from ..files.written import cannot_write, check_writable, locked, shown_path, whole_file
from .calibration import Calibration
from .start_record import StartRecord, read_start_record

SCHEMA_VERSION = 1
MOST_RECORDS = 500


def load(path: str) -> Calibration:
    """The file's records; those that cannot be are left out, and its notes say so.

    Raises:
        InputError: It cannot be read, or is not what ``save`` writes; says where.
    """
    where = shown_path(path)
    found = read_config_file(path)
    if found.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(f"{where}: not a calibration file of schema_version {SCHEMA_VERSION}")
    rows = found.get("lessons")  # the file's word for them since its first version
    if not isinstance(rows, list):
        raise ConfigError(f"{where}: lessons must be a list")
    records: list[StartRecord] = []
    wrong: list[str] = []
    for number, row in enumerate(rows):
        try:
            records.append(read_start_record(row))
        except InputError as error:
            wrong.append(f"record {number}: {error}")
    notes = () if not wrong else (_told(where, wrong, len(rows)),)
    return Calibration(records=tuple(records[-MOST_RECORDS:]), where=where, notes=notes)


def _told(where: str, wrong: list[str], of: int) -> str:
    return (
        f"{where}: {len(wrong):,} of its {of:,} records cannot be used ({wrong[0]}); left out "
        "here, and from the file when calibrate next writes it"
    )


def add(path: str, records: tuple[StartRecord, ...]) -> Calibration:
    """Add records to the file, whoever else does so at the same time; what was in it before.

    Raises:
        InputError: The file is there and no calibration file, or it cannot be written.
    """
    check_writable_or_make(path)
    with locked(path):
        is_there = os.path.exists(path)
        old = load(path) if is_there else Calibration(records=(), where=shown_path(path))
        save(path, merged(old.records, records))
    return old


def check_writable_or_make(path: str) -> None:
    """Make the folder, and refuse what is no file to write to.

    Raises:
        InputError: It cannot be.
    """
    try:
        os.makedirs(os.path.dirname(os.path.realpath(path)), exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None
    except ValueError:
        raise InputError(f"{shown_path(path)}: not a usable file name") from None
    check_writable(path)


def save(path: str, records: tuple[StartRecord, ...]) -> None:
    """Write the records in place of the file, the oldest left out where they are too many.

    Raises:
        InputError: The file cannot be written, or a record cannot be.
    """
    rows = [read_start_record(each.to_dict()).to_dict() for each in records][-MOST_RECORDS:]
    while True:
        text = json.dumps({"schema_version": SCHEMA_VERSION, "lessons": rows}, indent=1)
        if len(text) < MAX_FILE_BYTES:
            break
        rows = rows[len(rows) // 10 + 1 :]
    check_writable_or_make(path)
    with whole_file(path) as file:
        file.write(text + "\n")


def merged(old: tuple[StartRecord, ...], new: tuple[StartRecord, ...]) -> tuple[StartRecord, ...]:
    """Old and new records; of one start told twice the newer, and never more than are read."""
    again = {each.engine for each in new}
    kept = tuple(each for each in old if each.engine not in again)
    return (*kept, *{each.engine: each for each in new}.values())[-MOST_RECORDS:]
