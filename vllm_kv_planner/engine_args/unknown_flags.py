"""Flags that vLLM 0.33 does not have: older ones, misspelt ones, and those nobody knows.

vLLM itself refuses them all. Here only what may be meant for a flag that changes the plan is
refused; the others are named in a note, because a command of another version is worth a plan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from ..errors import InputError, UnknownNameError, printable
from ..records import dataclass, field
from .flag_table import all_flags
from .near_flags import near_flags
from .older_flags import OlderFlag, older_flag

MOST = 50
"""Unknown flags in one command; more is no command."""

_NUMBER = re.compile(r"-\d+|-\d*\.\d+")
_TRUTH = {"true": True, "false": False}


@dataclass
class Taken:
    """A word that stood behind a flag nobody knows, and the flag's note."""

    word: str
    flag: str
    note: int


@dataclass
class SortedWords:
    """A command's words after the unknown flags were taken out.

    Attributes:
        words: For argparse.
        notes: One for each flag that was taken out or rewritten.
        taken: What the unknown ones took for values.
    """

    words: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)

    def give_back(self) -> list[str]:
        """The words with a model that an unknown flag took for its value, where it took any."""
        if not self.taken:
            return self.words
        paths = [each for each in self.taken if "/" in each.word]
        given_back = (paths or self.taken)[-1]
        shown = _shown(given_back.flag, given_back.word, 80)
        after = f"; {shown!r} behind it is taken for the model"
        self.notes[given_back.note] = _note(given_back.flag, "") + after
        return [given_back.word, *self.words]


def is_flag(word: str) -> bool:
    """Whether argparse takes a word for a flag."""
    if not word.startswith("-") or word in ("-", "--"):
        return False
    return " " not in word.partition("=")[0] and not _NUMBER.fullmatch(word)


def sort_out(
    words: Sequence[str], own: Iterable[str], is_known: Callable[[str], bool]
) -> SortedWords:
    """Take out what vLLM 0.33 does not know.

    Args:
        words: As ``prepare_arguments`` leaves them.
        own: Flags of the command itself.
        is_known: Whether argparse knows a flag, or what it abbreviates.

    Raises:
        UnknownNameError: A flag that may be a misspelt one of those which change the plan.
        InputError: An older flag whose meaning cannot be kept; too many unknown flags.
    """
    sorted_out = SortedWords()
    switches = _switches()
    own = tuple(own)
    i = 0
    while i < len(words):
        word = words[i]
        i += 1
        if word == "--":
            sorted_out.words += words[i - 1 :]
            break
        if not is_flag(word):
            sorted_out.words.append(word)
            continue
        name, equals, value = word.partition("=")
        follow = [value] if equals else []
        older = older_flag(name)
        if older is None and is_known(name):
            off = switches.get(name)
            truth = follow or words[i : i + 1]
            if off is not None and truth and truth[0].lower() in _TRUTH:
                i += 0 if equals else 1
                sorted_out.words += _switched(name, off, truth[0], sorted_out.notes)
            else:
                sorted_out.words.append(word)
            continue
        if not equals:
            follow = _values(words[i:], "one" if older is None else older.takes)
            i += len(follow)
        if len(sorted_out.notes) >= MOST:
            raise InputError(f"more than {MOST} flags that vLLM 0.33 does not have")
        if older is None:
            _unknown(name, follow, own, sorted_out, attached=bool(equals))
        else:
            _older(older, follow, words, sorted_out)
    return sorted_out


def _values(following: Sequence[str], takes: str) -> list[str]:
    most = {"none": 0, "one": 1, "optional": 1}.get(takes, len(following))
    values: list[str] = []
    for word in following[:most]:
        if is_flag(word) or word == "--":
            break
        values.append(word)
    return values


def _unknown(
    name: str, values: list[str], own: tuple[str, ...], sorted_out: SortedWords, *, attached: bool
) -> None:
    near, changes_plan = near_flags(name, own)
    if changes_plan:
        shown = printable(name[:60])
        raise UnknownNameError(f"unknown flag {shown}; did you mean {' or '.join(near)}?")
    given = ""
    if values:
        value = _shown(name, values[0], 40)
        given = f" (nor for its value {value!r})"
        if not attached:
            sorted_out.taken.append(Taken(values[0], name, len(sorted_out.notes)))
    hint = f"; nearest: {near[0]}" if near else ""
    sorted_out.notes.append(_note(name, given) + hint)


def _shown(flag: str, value: str, most: int) -> str:
    """A flag's value for a note."""
    from ..masking import is_secret, masked_text

    return "..." if is_secret(flag) else printable(masked_text(value)[:most])


def _note(name: str, given: str) -> str:
    return (
        f"{printable(name[:60])}: no flag of vLLM 0.33 that this planner knows; "
        f"nothing planned for it{given}"
    )


def _older(older: OlderFlag, values: list[str], words: Sequence[str], out: SortedWords) -> None:
    instead = older.in_its_place(values)
    if not instead:
        out.notes.append(f"{older.message}; nothing planned for it")
        return
    shown = printable(" ".join(instead)[:120])
    if any(word.partition("=")[0] == instead[0] for word in words):
        if instead[-1].startswith("{"):
            raise InputError(f"{older.message}; write it into {instead[0]}, which is given, too")
        out.notes.append(f"{older.message}; {instead[0]}, also given, decides")
        return
    out.words += instead
    out.notes.append(f"{older.message}; planned as {shown}")


def _switches() -> dict[str, tuple[str, ...]]:
    """Every spelling of a flag without value, and what turns that flag off."""
    found: dict[str, tuple[str, ...]] = {}
    for flag in all_flags():
        if flag.takes in ("switch", "set"):
            off = flag.turn_off
            found.update(dict.fromkeys((*flag.spellings, *off), off))
    return found


def _switched(name: str, off: tuple[str, ...], word: str, notes: list[str]) -> list[str]:
    """``--enable-chunked-prefill False``, as older versions took it."""
    if _TRUTH[word.lower()]:
        instead = [name]
    elif name in off or not off:
        return [name, word]  # argparse says what is wrong with it
    else:
        instead = [off[0]]
    notes.append(f"{name} {word}: vLLM 0.33 takes no value here; planned as {instead[0]}")
    return instead
