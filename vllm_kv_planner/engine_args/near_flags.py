"""The known flag that an unknown one is meant for."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from ..errors import UnknownNameError
from .flag_table import all_flags, all_spellings
from .older_flags import older_flag, synonyms

_PREFIX = re.compile(r"--?(no-)?(enable-|disable-|use-)?")
_LIKE, _MUCH_LIKE = 0.6, 0.1
_LONGEST = 100


def near_flag(name: str, spellings: Collection[str]) -> str:
    """``; did you mean --x?`` for a flag nobody knows; empty where nothing is near.

    Args:
        name: The unknown flag, without its value.
        spellings: The flags that its command has.
    """
    for meant in synonyms(name):
        if not meant.startswith("-"):
            return f"; {meant}"
        if meant.split()[0] in spellings:
            return f"; did you mean {meant}?"
    attached = re.fullmatch(r"(-[a-z]+)(\d+)", name)
    if attached is not None and attached[1] in spellings:
        return f"; did you mean {attached[1]} {attached[2][:20]}?"
    near = _nearest(name, spellings) if len(name) <= _LONGEST else None
    return f"; did you mean {near}?" if near else ""


def _nearest(name: str, spellings: Collection[str]) -> str | None:
    harmless = {
        spelling for flag in all_flags() if not flag.is_understood for spelling in flag.spellings
    }
    changing: dict[str, str] = {}
    others: dict[str, str] = {}
    for spelling in sorted(spellings, key=len):  # the long one stands for a core of two
        if spelling.startswith("--") != name.startswith("--"):
            continue
        (others if spelling in harmless else changing)[core_of(spelling)] = spelling
    core = core_of(name)
    best, best_ratio = _best(core, changing)
    other, other_ratio = _best(core, others)
    if best is not None and best_ratio >= other_ratio - _MUCH_LIKE:
        return best
    shortened = next((flag for known, flag in changing.items() if _shortens(core, known)), None)
    return shortened or other


def core_of(name: str) -> str:
    """A flag's name without what turns it on or off."""
    return _PREFIX.sub("", name, count=1) or name


def _best(core: str, names: dict[str, str]) -> tuple[str | None, float]:
    from difflib import SequenceMatcher, get_close_matches

    found = get_close_matches(core, names, n=1, cutoff=_LIKE)
    if not found:
        return None, 0.0
    # in the order that get_close_matches compares them
    return names[found[0]], SequenceMatcher(None, found[0], core).ratio()


def _shortens(core: str, whole: str) -> bool:
    """``gpu-util`` of ``gpu-memory-utilization``: each part begins one of its parts, in order."""
    parts = iter(whole.split("-"))
    pieces = core.split("-")
    return len(pieces) > 1 and all(
        piece and any(part.startswith(piece) for part in parts) for piece in pieces
    )


def unknown_argument(given: Iterable[str], args: type) -> UnknownNameError | None:
    """The refusal of the first keyword that is no field of ``args``; None where all are."""
    fields = frozenset(args.__annotations__)
    flags = {flag.field for flag in all_flags()}
    for name in given:
        if name in flags and name not in fields:
            return UnknownNameError(f"plan(): {name} changes nothing that is planned; leave it out")
        if name not in fields:
            message = unknown_flag_message("--" + name)
            return UnknownNameError(f"plan(): {message.replace('unknown flag', 'no flag', 1)}")
    return None


def unknown_flag_message(option: str) -> str:
    """One line for a name that is no flag of vLLM's: what became of it, else the nearest."""
    name = "--" + option.lstrip("-").replace("_", "-")
    older = older_flag(name)
    if older is not None:
        return older.message
    return f"unknown flag {name[:60]}{near_flag(name, all_spellings())}"
