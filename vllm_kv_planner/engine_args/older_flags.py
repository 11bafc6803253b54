"""Flags of earlier ``vllm serve``s that 0.33 no longer has, and what became of each.

The table itself is data, ``older_flags.json`` beside this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from ..data_files import read_json
from ..errors import InputError
from ..records import dataclass


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


def meant_elsewhere(name: str) -> str | None:
    """vLLM's flag for what other servers call ``name``."""
    found: str | None = _file()["elsewhere"].get(name)
    return found


@lru_cache(maxsize=1)
def _file() -> dict[str, Any]:
    found: dict[str, Any] = read_json(__file__, "older_flags.json")
    return found
