"""Every flag of ``vllm serve``: how many values it takes, and whether it changes memory.

The table itself is data, ``vllm_flags.json`` beside this file.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from ..files.data import read_json
from ..records import dataclass

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
    """How its value is read: a name of ``flag_values``."""
    can_unset: bool
    """'' and None on the command line mean unset."""
    choices: tuple[str | int, ...]
    effect: Effect
    why: str
    """How an unsure flag may change memory."""
    group: str
    keys: str
    """The configuration class whose fields are the keys of its JSON object; see nested_values."""

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
            effect=row["effect"],
            why=row.get("why", ""),
            group=row["group"],
            keys=row.get("keys", ""),
        )
        for row in table["flags"]
    )


def flag_words(name: str, value: Any) -> list[str]:
    """A flag and its value as words of a command line."""
    flag = _flag(name)
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
def _flag(name: str) -> Flag:
    return next(flag for flag in all_flags() if flag.field == name)


def all_spellings() -> list[str]:
    """Every option string, turned-off forms included."""
    return [name for flag in all_flags() for name in (*flag.spellings, *flag.turn_off)]
