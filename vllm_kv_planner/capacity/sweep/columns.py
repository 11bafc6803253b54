"""The columns of a row: the set-up's names, then the plan's figures by the names of its CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

from ...engine_args.engine_args import EngineArgs
from ...errors import printable
from ...planning import types as plan_types
from ...records import as_plain, fields, is_dataclass

KEY = "key"
"""The last column: what ``--resume`` knows the row by."""
ERROR = "error"
"""Why there is no plan; empty where there is one."""
FITS = "fits"


class Column(NamedTuple):
    """One figure of the plan: its name, dots included, and the type it is declared with."""

    name: str
    declared: str


@cache
def plan_columns() -> tuple[Column, ...]:
    """Every leaf of a plan but ``fits``, which comes first; lists and provenance are one cell."""
    return tuple(each for each in _leaves(plan_types.Plan, "") if each.name != FITS)


def _leaves(record: Any, prefix: str) -> Iterator[Column]:
    for each in fields(record):
        declared: str = record.__annotations__[each.name]
        inner = getattr(plan_types, declared, None)
        if is_dataclass(inner):
            yield from _leaves(inner, f"{prefix}{each.name}.")
        else:
            yield Column(prefix + each.name, declared)


@cache
def figures() -> Callable[[plan_types.Plan], tuple[Any, ...]]:
    """Reads ``fits`` and the plan's columns."""
    return attrgetter(FITS, *(each.name for each in plan_columns()))


def all_columns(names: tuple[str, ...]) -> tuple[str, ...]:
    """The header of a sweep over ``names``."""
    return (*names, FITS, ERROR, *(each.name for each in plan_columns()), KEY)


def declared_types(names: tuple[str, ...]) -> dict[str, str]:
    """The type of every column, as it is declared in the code."""
    texts = dict.fromkeys(names, "str")
    flags = {name: EngineArgs.__annotations__.get(name, "str") for name in names}
    own = {FITS: "bool", ERROR: "str", KEY: "str"}
    return {**texts, **flags, **own, **{each.name: each.declared for each in plan_columns()}}


def plain(value: Any) -> Any:
    """A cell's value: printable text, numbers as they are, records and tuples as lists."""
    if isinstance(value, str):
        return printable(value)
    if value is None or isinstance(value, int | float):
        return value
    return as_plain(value)
