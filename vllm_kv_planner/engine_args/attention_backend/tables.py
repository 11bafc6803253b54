"""The tables of attention backends, ``attention_backends.json``, read as declarations."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

from ...files.json_file import read_json
from . import kv_dtypes, latent, plain
from .declaration import Capability, Declaration, KernelBlock

Table = Literal["cuda", "model", "rocm", "xpu"]
_RULES = {"plain": plain, "latent": latent, "packing": kv_dtypes}


@lru_cache(maxsize=1)
def _tables() -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = read_json(__file__, "attention_backends.json")
    return found


def names_in(table: Table) -> list[str]:
    """Every backend of a table."""
    return list(_tables()[table])


@lru_cache(maxsize=256)
def declared(table: Table, name: str) -> Declaration | None:
    """What a backend of a table says of itself; None where the table does not have it."""
    row = _tables()[table].get(name)
    if row is None:
        return None
    return Declaration(name=name, **{key: _read(key, value) for key, value in _whole(row).items()})


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    """A row with what it has of the one that it is like."""
    own = {key: value for key, value in row.items() if key not in ("like", "note")}
    if "like" not in row:
        return own
    tables = _tables()
    likes = (tables[table].get(row["like"]) for table in ("templates", "cuda", "model"))
    return {**_whole(next(each for each in likes if each is not None)), **own}


def _read(key: str, value: Any) -> Any:
    """A value of a row as ``Declaration`` has it."""
    if key == "runs_on":
        return tuple(map(_capabilities, value.split()))
    if key == "blocks" and isinstance(value, list):
        return tuple(
            KernelBlock(int(str(size).lstrip("x")), multiples=isinstance(size, str))
            for size in value
        )
    if isinstance(value, str):
        return _rule(value) if "." in value else tuple(value.split())
    return tuple(value) if isinstance(value, list) else value


def _capabilities(word: str) -> tuple[Capability, Capability]:
    """``9.x``, ``9.0`` and ``8.0-12.1`` as the first and the last compute capability."""
    low, _, high = word.partition("-")
    first, last = low.replace("x", "0"), (high or low).replace("x", "9")
    (major, minor), (last_major, last_minor) = (map(int, e.split(".")) for e in (first, last))
    return (major, minor), (last_major, last_minor)


def _rule(text: str) -> Callable[..., Any]:
    """``plain.sink`` is that function, ``packing.rows_apart 64`` what it makes of the number."""
    name, _, number = text.partition(" ")
    module, _, function = name.partition(".")
    found: Callable[..., Any] = getattr(_RULES[module], function)
    made: Callable[..., Any] = found(int(number)) if number else found
    return made
