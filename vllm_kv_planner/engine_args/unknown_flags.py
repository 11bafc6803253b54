"""Flags that a command does not have: those of older vLLMs in today's words, the rest refused.

vLLM 0.33 itself refuses them all. A command of another version is worth a plan, so the flags of
earlier versions get a note, or what says the same today, unless the version is known to be 0.33.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from ..errors import InputError, UnknownNameError, printable
from ..version import VLLM
from .flag_table import (
    OlderFlag,
    all_flags,
    all_spellings,
    is_today,
    older_flag,
    synonyms,
    took_truth,
)


class Parser(Protocol):
    """What is asked of ``flags.FlagParser``: which flags there are, and whose command it reads."""

    prog: str
    has_engine_flags: bool
    is_vllm: bool
    vllm_version: str | None

    def knows(self, name: str) -> bool:
        """Whether the command has the flag, or one that begins so."""

    @property
    def spellings(self) -> list[str]:
        """Every option string of the command."""


MOST = 50
"""Flags of older versions in one command; more is no command."""

_NUMBER = re.compile(r"-\d+|-\d*\.\d+")
_TRUTH = {"true": True, "false": False}


def is_flag(word: str) -> bool:
    """Whether argparse takes a word for a flag."""
    if not word.startswith("-") or word in ("-", "--"):
        return False
    return " " not in word.partition("=")[0] and not _NUMBER.fullmatch(word)


def sort_out(words: Sequence[str], parser: Parser) -> tuple[list[str], list[str]]:
    """The words that argparse shall read, and notes on those that were rewritten or taken out.

    Raises:
        UnknownNameError: A flag that the command does not have; names the nearest.
        InputError: A flag without its value, or an older one whose meaning cannot be kept.
    """
    left: list[str] = []
    notes: list[str] = []
    switches = _switches() if parser.has_engine_flags else {}
    i = 0
    while i < len(words):
        word = words[i]
        i += 1
        if word == "--":
            left += words[i - 1 :]
            break
        if not is_flag(word):
            left.append(word)
            continue
        name, equals, value = word.partition("=")
        if value == "--":
            raise InputError(f"{printable(name[:60])}: expected a value, not '--'")
        older = older_flag(name) if parser.has_engine_flags else None
        if older is None and not parser.knows(name):
            raise unknown_flag(name, parser)
        if older is None:
            truth = [value] if equals else words[i : i + 1]
            if name in switches and truth and truth[0].lower() in _TRUTH:
                i += 0 if equals else 1
                left.append(_switched(name, switches[name], truth[0], parser, notes))
            else:
                left.append(word)
            continue
        follow = [value] if equals else _values(words[i:], older.takes)
        i += 0 if equals else len(follow)
        if len(notes) >= MOST:
            raise InputError(f"more than {MOST} flags that vLLM 0.33 does not have")
        if is_today(parser.vllm_version):
            raise UnknownNameError(older.message)
        left += _older(older, follow, words, notes)
    return left, notes


def unknown_flag(name: str, parser: Parser) -> UnknownNameError:
    """The refusal of a flag that the command does not have."""
    shown = printable(name[:60])
    if not parser.has_engine_flags and name in all_spellings():
        return UnknownNameError(
            f"{shown} is a flag of vLLM's: it stands in the command behind --, not before"
        )
    near = near_flag(name, parser.spellings)
    if parser.is_vllm:
        return UnknownNameError(f"unknown flag {shown}, which vllm serve {VLLM} refuses{near}")
    return UnknownNameError(f"unknown flag {shown}{near or f'; {parser.prog} --help lists them'}")


def _values(following: Sequence[str], takes: str) -> list[str]:
    most = {"none": 0, "one": 1, "optional": 1}.get(takes, len(following))
    values: list[str] = []
    for word in following[:most]:
        if is_flag(word) or word == "--":
            break
        values.append(word)
    return values


def _older(
    older: OlderFlag, values: list[str], words: Sequence[str], notes: list[str]
) -> list[str]:
    instead = older.in_its_place(values)
    if not instead:
        notes.append(f"{older.message}; nothing planned for it")
        return []
    shown = printable(" ".join(instead)[:120])
    if any(word.partition("=")[0] == instead[0] for word in words):
        if instead[-1].startswith("{"):
            raise InputError(f"{older.message}; write it into {instead[0]}, which is given, too")
        notes.append(f"{older.message}; {instead[0]}, also given, decides")
        return []
    notes.append(f"{older.message}; planned as {shown}")
    return instead


def _switches() -> dict[str, tuple[str, ...]]:
    """Every spelling of a flag without value, and what turns that flag off."""
    found: dict[str, tuple[str, ...]] = {}
    for flag in all_flags():
        if flag.takes in ("switch", "set"):
            off = flag.turn_off
            found.update(dict.fromkeys((*flag.spellings, *off), off))
    return found


def _switched(name: str, off: tuple[str, ...], word: str, parser: Parser, notes: list[str]) -> str:
    """``--enable-chunked-prefill False``, as older versions took it."""
    instead = name if _TRUTH[word.lower()] else (off[0] if off and name not in off else None)
    if not took_truth(name) or instead is None or is_today(parser.vllm_version):
        hint = f"write {instead}" if instead else "leave it out"
        raise InputError(f"{name}: vLLM 0.33 takes no value here, got {word!r}; {hint}")
    notes.append(f"{name} {word}: vLLM 0.33 takes no value here; planned as {instead}")
    return instead


_PREFIX = re.compile(r"--?(no-)?(enable-|disable-|use-)?")
_LIKE, _MUCH_LIKE = 0.6, 0.1
_LONGEST = 100


def near_flag(name: str, spellings: Collection[str]) -> str:
    """``; did you mean --x?`` for a flag nobody knows; empty where nothing is near."""
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
