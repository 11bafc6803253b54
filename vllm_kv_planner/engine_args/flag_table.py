"""Every flag of ``vllm serve``, and of earlier ones: its values, its effect, what became of it.

The tables are data beside this file: ``vllm_flags.json`` (0.33), ``older_flags.json`` (what 0.33 no
longer has, and synonyms), ``flag_versions.json`` (when each came and went).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from ..errors import InputError, UnknownNameError
from ..files.json_file import read_json
from ..records import dataclass, field
from ..version import VLLM

Effect = Literal["kv_cache", "memory", "none", "unsure"]
Takes = Literal["switch", "set", "one", "optional", "many"]


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One flag and all its spellings."""

    spellings: tuple[str, ...]
    """As vLLM declares them, the long one first."""
    field: str
    """vLLM's name for the value; a field of EngineArgs where the flag is understood."""
    takes: Takes
    effect: Effect
    group: str
    type: str = "text"
    """How its value is read: a name of the readers in ``flags.py``."""
    can_unset: bool = False
    """'' and None on the command line mean unset."""
    choices: tuple[str | int, ...] = ()
    """What the command line takes; empty where it is free."""
    names: tuple[Any, ...] = ()
    """What EngineArgs takes: the choices, or names that are looked at there alone."""
    least: int | None = None
    """Smallest number that EngineArgs takes; None: it is no number, or any will do."""
    most: int | None = None
    help: str = ""
    """What ``--help`` says of it; empty: it is not listed."""
    why: str = ""
    """How an unsure flag may change memory."""
    keys: str = ""
    """The configuration class whose fields are the keys of its JSON object; see value_types."""

    @property
    def is_understood(self) -> bool:
        """Whether EngineArgs has a field for it."""
        return self.effect in ("kv_cache", "memory")

    @property
    def turn_off(self) -> tuple[str, ...]:
        """What turns a switch off: ``--no-x``, and ``--disable-y`` for ``--enable-y``.

        As ``EnableDisableAction`` of vllm/utils/argparse_utils.py (0.33) registers them.
        """
        if self.takes != "switch":
            return ()
        inverses = (("--", "--no-"), ("--enable-", "--disable-"), ("--disable-", "--enable-"))
        return tuple(
            inverse + name[len(prefix) :]
            for name in self.spellings
            for prefix, inverse in inverses
            if name.startswith(prefix)
        )


@lru_cache(maxsize=1)
def all_flags() -> tuple[Flag, ...]:
    """The flags of ``vllm serve`` 0.33, in its order; 319 of them."""
    return tuple(Flag(**_as_fields(row)) for row in read_json(__file__, "vllm_flags.json")["flags"])


def _as_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table by the names of the record's fields, its lists as tuples."""
    names = {"flags": "spellings", "none": "can_unset", "as": "words"}
    found = {
        names.get(key, key): tuple(value) if isinstance(value, list) else value
        for key, value in row.items()
    }
    return {"names": found["choices"], **found} if "choices" in found else found


def flag_words(name: str, value: Any) -> list[str]:
    """A flag and its value as words of a command line."""
    flag = flag_of(name)
    spelled = flag.spellings[0]
    if isinstance(value, bool):
        return [spelled if value else flag.turn_off[0]]
    if value is None:  # only a default can be None, so nobody asks for it
        return []
    if isinstance(value, dict):
        return [spelled, json.dumps(value)]
    if isinstance(value, (tuple, list)):
        return [spelled, *map(str, value)]
    return [spelled, str(value)]


def flag_text(name: str, value: Any) -> str:
    """A flag and its value, quoted for a shell; secrets are hidden."""
    import shlex

    from ..masking import masked_words

    return shlex.join(masked_words(flag_words(name, value)))


@lru_cache(maxsize=128)
def flag_of(name: str) -> Flag:
    """The flag of a field of EngineArgs."""
    return next(flag for flag in all_flags() if flag.field == name)


def all_spellings() -> list[str]:
    """Every option string, turned-off forms included."""
    return [name for flag in all_flags() for name in (*flag.spellings, *flag.turn_off)]


@dataclass(frozen=True, kw_only=True)
class OlderFlag:
    """One flag of 0.6 to 0.32.

    Attributes:
        name: With its dashes.
        takes: How many words follow it.
        note: What became of it.
        words: What is planned in its place; ``{}`` stands for its value. None: nothing is.
        by_value: The same where it depends on the value.
        many: The same for more than one value.
        refused: Memory depends on it, and 0.33 says it in a way that cannot be put in its place.
    """

    name: str
    takes: Literal["none", "optional", "one", "many"]
    note: str
    words: tuple[str, ...] | None = None
    by_value: Mapping[str, Sequence[str]] = field(default_factory=dict)
    many: tuple[str, ...] | None = None
    refused: bool = False

    def in_its_place(self, values: Sequence[str]) -> list[str]:
        """Words of 0.33 for this flag and its values; none where it changes nothing.

        Raises:
            InputError: Memory depends on it and nothing can stand in its place.
        """
        value = values[0] if values else ""
        if self.refused or (self.takes in ("one", "many") and not values):
            raise InputError(self.message if self.refused else f"{self.name}: expected a value")
        if value in self.by_value:
            return list(self.by_value[value])
        template = self.words if len(values) < 2 else self.many
        if template is None and self.by_value:
            valid = ", ".join(self.by_value)
            raise InputError(f"{self.name}: {value[:40]!r} cannot be planned for; known: {valid}")
        words: list[str] = []
        for part in template or ():
            words += values if part == "{}" else [part.replace("{}", value)]
        return words

    @property
    def message(self) -> str:
        """One line for a reader."""
        return f"vLLM 0.33 has no {self.name}: {self.note}"


def older_flag(name: str) -> OlderFlag | None:
    """The flag of that name."""
    row = _file()["older"].get(name)
    return None if row is None else OlderFlag(name=name, **_as_fields(row))


def older_names() -> tuple[str, ...]:
    """Every name in the table."""
    return tuple(_file()["older"])


def synonyms(name: str) -> list[str]:
    """What people mean by a flag that vLLM never had; the first that the command has is meant.

    ``--ctx-window`` means what ``--context-length`` does. An entry without a leading dash is a hint
    in words.
    """
    meant: dict[str, list[str]] = _file()["meant"]
    if name in meant:
        return meant[name]
    words = _words(name)
    return next((found for each, found in meant.items() if _words(each) == words), [])


def _words(name: str) -> frozenset[str]:
    """The words of a name, each in the form that stands for its like."""
    alike: dict[str, str] = _file()["alike"]
    singular = {word: word.removesuffix("s") or word for word in name.split("-") if word}
    return frozenset(alike.get(word) or alike.get(one, one) for word, one in singular.items())


def wrapper_flags(program: str) -> dict[str, int]:
    """The flags that a program around vLLM takes for itself, and how many words follow each."""
    return dict(_file()["wrappers"][program])


def took_truth(name: str) -> bool:
    """Whether older versions took ``True`` or ``False`` behind this switch."""
    return name in _file()["took_truth"]


def is_today(version: str | None) -> bool:
    """Whether it is said that the command is for 0.33, whose parser refuses older flags."""
    return version is not None and re.match(rf"v?{re.escape(VLLM)}(\D|$)", version) is not None


def refused_by(name: str, version: str | None) -> str | None:
    """Why the parser of a version of vLLM refuses a flag; None where it takes it, or nobody knows.

    Known are the releases of ``flag_versions.json``, made by ``tools/make_flag_versions.py``; a
    build between two releases may have what the next one brings.

    Args:
        name: The flag, one that 0.33 has or that ``older_flag`` knows; ``--no-x`` is ``--x``.
        version: ``0.20``, ``v0.19.1``; None: nobody said.
    """
    if version is None or is_today(version) or re.search("dev|rc", version):
        return None
    asked, table = _number(version), read_json(__file__, "flag_versions.json")
    read, flags = table["versions"], table["flags"]
    row = flags.get(name) or flags.get(name.replace("--no-", "--", 1))
    if row is None and name in older_names() and asked >= _number(read[0]):
        return f"vLLM {version} has no {name}: it went before {read[0]}"
    if row is None or asked > _number(read[-1]):
        return None
    first, last = (_number(each)[: len(asked)] for each in row)
    if asked < first:
        return f"vLLM {version} has no {name}: it came with {row[0]}"
    return f"vLLM {version} has no {name}: it went after {row[1]}" if asked > last else None


def check_version(names: Iterable[str], version: str | None) -> None:
    """Refuse the first flag that a version does not have, as its parser does.

    Raises:
        UnknownNameError: Which, and when it came or went.
    """
    for name in names if version is not None else ():
        flag = name if name.startswith("-") else "--" + name.replace("_", "-")
        refusal = refused_by(flag.partition("=")[0], version)
        if refusal is not None:
            raise UnknownNameError(refusal)


def _number(version: str) -> tuple[int, ...]:
    """``v0.19.1.post1`` as (0, 19, 1)."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def todays_keys(
    flag: str, value: Mapping[str, Any], version: str | None, notes: list[str]
) -> dict[str, Any]:
    """A flag's JSON object with the keys that were renamed since an older version in today's words.

    Keys that are gone are left out where an older version is named; ``notes`` tells of each.

    Raises:
        UnknownNameError: A key that is gone, and no older version is named.
    """
    older: dict[str, Any] = _file()["older_keys"].get(flag, {})
    if flag == "--speculative-config":  # as create_speculative_config in arg_utils.py (0.33)
        value = {key.replace("-", "_"): each for key, each in value.items()}
    found: dict[str, Any] = {}
    for key, given in value.items():
        row = older.get(key)
        if row is None:
            found.setdefault(key, given)
            continue
        said = f"{flag}: vLLM 0.33 has no {key}: {row['note']}"
        word = json.dumps(given, default=str).lower()
        if "as" in row:
            instead = {row["as"]: given}
        elif word in row.get("by_value", {}):
            instead = row["by_value"][word]
        elif version is None or is_today(version):
            raise UnknownNameError(f"{said}; leave it out")
        else:
            instead = {}
        shown = ", ".join(instead) or "nothing"
        notes.append(f"{said}; planned as {shown}")
        found.update(instead)
    return found


@lru_cache(maxsize=1)
def _file() -> dict[str, Any]:
    return dict(read_json(__file__, "older_flags.json"))
