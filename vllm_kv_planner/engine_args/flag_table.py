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
from ..records import dataclass
from ..version import VLLM

Effect = Literal["kv_cache", "memory", "none", "unsure"]
Takes = Literal["switch", "set", "one", "optional", "many"]


@dataclass(frozen=True)
class Flag:
    """One flag and all its spellings."""

    spellings: tuple[str, ...]
    """As vLLM declares them, the long one first."""
    field: str
    """vLLM's name for the value; a field of EngineArgs where the flag is understood."""
    takes: Takes
    type: str
    """How its value is read: a name of the readers in ``flags.py``."""
    can_unset: bool
    """'' and None on the command line mean unset."""
    choices: tuple[str | int, ...]
    """What the command line takes; empty where it is free."""
    names: tuple[Any, ...]
    """What EngineArgs takes: the choices, or names that are looked at there alone."""
    least: int | None
    """Smallest number that EngineArgs takes; None: it is no number, or any will do."""
    most: int | None
    help: str
    """What ``--help`` says of it; empty: it is not listed."""
    effect: Effect
    why: str
    """How an unsure flag may change memory."""
    group: str
    keys: str
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
        off: list[str] = []
        for name in self.spellings:
            if not name.startswith("--"):
                continue
            off.append("--no-" + name[2:])
            for prefix, inverse in (("--enable-", "--disable-"), ("--disable-", "--enable-")):
                if name.startswith(prefix):
                    off.append(inverse + name[len(prefix) :])
        return tuple(off)


@lru_cache(maxsize=1)
def all_flags() -> tuple[Flag, ...]:
    """The flags of ``vllm serve`` 0.33, in its order; 319 of them."""
    table = read_json(__file__, "vllm_flags.json")
    return tuple(
        Flag(
            spellings=tuple(row["flags"]),
            field=row["field"],
            takes=row["takes"],
            type=row.get("type", "text"),
            can_unset=row.get("none", False),
            choices=tuple(row.get("choices", ())),
            names=tuple(row.get("names", row.get("choices", ()))),
            least=row.get("least"),
            most=row.get("most"),
            help=row.get("help", ""),
            effect=row["effect"],
            why=row.get("why", ""),
            group=row["group"],
            keys=row.get("keys", ""),
        )
        for row in table["flags"]
    )


def flag_words(name: str, value: Any) -> list[str]:
    """A flag and its value as words of a command line."""
    flag = flag_of(name)
    spelled = flag.spellings[0]
    if isinstance(value, bool):
        return [spelled if value else flag.turn_off[0]]
    if value is None:  # only a default can be None, so nobody asks for it
        return []
    if isinstance(value, dict):
        import json

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
    words: tuple[str, ...] | None
    by_value: Mapping[str, tuple[str, ...]]
    many: tuple[str, ...] | None
    refused: bool

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
    if row is None:
        return None
    return OlderFlag(
        name=name,
        takes=row["takes"],
        note=row["note"],
        words=tuple(row["as"]) if "as" in row else None,
        by_value={value: tuple(words) for value, words in row.get("by_value", {}).items()},
        many=tuple(row["many"]) if "many" in row else None,
        refused=row.get("refused", False),
    )


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
    found: set[str] = set()
    for word in filter(None, name.split("-")):
        singular = word.removesuffix("s") or word
        found.add(alike.get(word) or alike.get(singular, singular))
    return frozenset(found)


def wrapper_flags(program: str) -> dict[str, int]:
    """The flags that a program around vLLM takes for itself, and how many words follow each."""
    found: dict[str, int] = _file()["wrappers"][program]
    return found


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
    asked = _number(version)
    table = read_json(__file__, "flag_versions.json")
    read = table["versions"]
    negated = "--" + name[5:] if name.startswith("--no-") else name
    row = table["flags"].get(name) or table["flags"].get(negated)
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
    found: dict[str, Any] = read_json(__file__, "older_flags.json")
    return found
