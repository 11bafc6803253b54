"""The known flag that a misspelt one is nearest to."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .flag_table import all_flags, all_spellings
from .older_flags import meant_elsewhere

_PREFIX = re.compile(r"--?(no-)?(enable-|disable-|use-)?")
_LIKE, _ALIKE, _MUCH_LIKE = 0.6, 0.7, 0.1
_LONGEST = 100


def near_flags(name: str, own: Iterable[str] = ()) -> tuple[list[str], bool]:
    """The nearest spellings, and whether ``name`` may be meant for one that changes the plan.

    Args:
        name: The flag nobody knows.
        own: A command's own flags, all of which change what it does.
    """
    elsewhere = meant_elsewhere(name)
    if elsewhere is not None:
        return [elsewhere], True
    attached = re.fullmatch(r"(-[a-z]+)(\d+)", name)
    if attached is not None and attached[1] in all_spellings():
        return [f"{attached[1]} {attached[2][:20]}"], True
    if len(name) > _LONGEST:
        return [], False
    changing = {core_of(spelling): spelling for spelling in own}
    harmless: dict[str, str] = {}
    for flag in all_flags():
        names = {core_of(spelling): spelling for spelling in reversed(flag.spellings)}
        (changing if flag.is_understood else harmless).update(names)
    core = core_of(name)
    best, best_ratio = _best(core, changing, _LIKE)
    other, other_ratio = _best(core, harmless, _LIKE)
    if best is not None and best_ratio >= _ALIKE and best_ratio >= other_ratio - _MUCH_LIKE:
        return [best], True
    shortened = next((f for c, f in changing.items() if _shortens(core, c)), None)
    if shortened is not None:
        return [shortened], True
    nearest = best if best_ratio > other_ratio else other
    return [nearest] if nearest else [], False


def core_of(name: str) -> str:
    """A flag's name without what turns it on or off."""
    return _PREFIX.sub("", name, count=1) or name


def _best(core: str, names: dict[str, str], cutoff: float) -> tuple[str | None, float]:
    from difflib import SequenceMatcher, get_close_matches

    found = get_close_matches(core, names, n=1, cutoff=cutoff)
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
