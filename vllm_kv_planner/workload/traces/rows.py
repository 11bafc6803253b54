"""Rows of a trace: CSV, JSON lines or one JSON array; each with the line it stands on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import InputError
from ...files.json_file import shown
from .json_array import array_items
from .lines import TraceInput

Row = tuple[int, Mapping[str, Any]]
"""Line number, and values by column; CSV values are texts."""

MOST_COLUMNS = 1000


def read_rows(file: TraceInput) -> Iterator[Row]:
    """The rows of whatever the file looks like; lazy.

    Raises:
        InputError: A row that cannot be read; names the line.
    """
    begins = file.peek(8192).lstrip()[:1]
    if begins == b"[":
        return _checked(array_items(file), file.where)
    if begins == b"{":
        return _checked(_json_lines(file), file.where)
    return _csv_rows(file)


def _checked(items: Iterator[tuple[int, Any]], where: str) -> Iterator[Row]:
    for number, item in items:
        if not isinstance(item, dict):
            raise InputError(
                f"{where}, line {number:,}: {shown(item)} where a request is an object"
            )
        yield number, item


def _json_lines(file: TraceInput) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file.lines(), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except RecursionError:
            raise InputError(f"{file.where}, line {number:,}: nested too deep") from None
        except json.JSONDecodeError as error:
            raise InputError(
                f"{file.where}, line {number:,}: not one JSON object ({error.msg}, "
                f"column {error.colno:,}); valid: one object a line, or one array of objects"
            ) from None
        except ValueError:  # Python refuses integers of more than 4300 digits
            raise InputError(
                f"{file.where}, line {number:,}: a number of thousands of digits"
            ) from None


def _csv_rows(file: TraceInput) -> Iterator[Row]:
    import csv

    lines = file.lines()
    header = next(lines, None)
    if header is None:
        return
    separator = max(",;\t", key=header.count)
    try:
        names = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
    except csv.Error as error:
        raise InputError(f"{file.where}, line 1: no CSV header ({error})") from None
    if not any(names) or len(names) > MOST_COLUMNS:
        raise InputError(f"{file.where}, line 1: no CSV header, and no JSON either")
    if len(set(names)) < len(names):
        raise InputError(f"{file.where}, line 1: a column is named twice")
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{file.where}, line {1 + reader.line_num:,}: {error}") from None
        if not row:
            continue
        if len(row) != len(names):
            raise InputError(
                f"{file.where}, line {1 + reader.line_num:,}: {len(row):,} columns "
                f"where the header names {len(names):,}"
            )
        yield 1 + reader.line_num, dict(zip(names, row, strict=True))
