"""vLLM's engine flags on an argparse parser, with vLLM's spellings and refusals.

Every flag of ``vllm serve`` is accepted. Those that change the KV cache or memory fill
EngineArgs; the others are remembered by name only.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, NoReturn

from ..errors import InputError
from .engine_args import EngineArgs
from .flag_help import HELP
from .flag_table import all_flags
from .flag_values import metavar_of, reader_of
from .older_flags import check_version


class FlagParser(argparse.ArgumentParser):
    """An argparse parser that raises InputError instead of printing and leaving.

    Flags it does not have are refused with the nearest one that it has. With vLLM's engine flags
    on it, flags of older versions are taken, and named in ``flag_notes`` of its namespace.

    Attributes:
        vllm_version: The version whose command line is read; None: nobody said.
    """

    has_engine_flags = False
    is_vllm = False
    """Whether this is vLLM's own command line, and not one of this planner's."""
    vllm_version: str | None = None

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """As argparse, after unknown flags were sorted out."""
        if args is None:
            return super().parse_args(args, namespace)
        words, notes = list(args), [*getattr(args, "notes", ())]
        if any(map(self._is_doubtful, args)):
            from .unknown_flags import sort_out

            words, more = sort_out(args, self)
            notes += more
        given = super().parse_args(words, namespace)
        self._check_empty(given)
        if self.has_engine_flags:
            version = self.vllm_version or getattr(given, "vllm_version", None)
            check_version([word for word in args if word.startswith("-")], version)
            _check_configs(given, self.vllm_version, notes)
            given.flag_notes = notes
        return given

    def knows(self, name: str) -> bool:
        """Whether argparse takes this for a flag of its own, or the beginning of one."""
        known = self._option_string_actions
        if name in known or (name[:2] != "--" and name[:2] in known):
            return True  # the second as in -qawq
        return self.allow_abbrev and any(each.startswith(name) for each in known)

    @property
    def spellings(self) -> list[str]:
        """Every flag that it has."""
        return list(self._option_string_actions)

    def _is_doubtful(self, word: str) -> bool:
        """A flag not known as it stands, or the value that older versions took for a switch."""
        if word[:1] != "-":
            return word.lower() in ("true", "false")
        return word not in self._option_string_actions

    def _check_empty(self, given: argparse.Namespace) -> None:
        """Refuse an empty value of this planner's own flags: an unset variable of a shell."""
        engine = {flag.field for flag in all_flags()} if self.has_engine_flags else ()
        values = vars(given)
        for action in self._actions:
            value = values.get(action.dest)
            some = value if isinstance(value, list) else [value]
            if "" in some and action.dest not in engine:
                name = action.option_strings[0] if action.option_strings else action.metavar
                raise InputError(f"{name or 'model'}: the value is empty (a variable not set?)")

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        """As argparse, which checks every metavar with a formatter of the terminal's width.

        Asking for that width imports ``shutil`` and its compressors; any width will do here.
        """
        kept: Any = self.formatter_class
        self.formatter_class = partial(kept, width=80)
        try:
            return super().add_argument(*args, **kwargs)
        finally:
            self.formatter_class = kept

    def error(self, message: str) -> NoReturn:
        """Raise InputError in place of argparse's usage and exit."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            first = unknown.split()[0] if unknown.split() else unknown
            raise InputError(f"unexpected argument {first[:80]!r}")
        raise InputError(message.removeprefix("argument "))


class _Switch(argparse.Action):
    """``--x`` stores True, ``--no-x`` and its kin False."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        self._off = frozenset(kwargs.pop("off"))
        super().__init__(option_strings, dest, nargs=0, **kwargs)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, option_string not in self._off)


def add_engine_flags(
    parser: argparse.ArgumentParser, *, omit: Collection[str] = (), show_help: bool = True
) -> None:
    """Add every flag of ``vllm serve`` to ``parser``, except the spellings in ``omit``.

    Nothing has a default: only what the user gave lands in the namespace. Flags that change
    nothing here are left out of ``--help``.
    """
    if isinstance(parser, FlagParser):
        parser.has_engine_flags = True
    group = parser.add_argument_group("vLLM engine flags", "as in vllm serve 0.33")
    for flag in all_flags():
        names = [n for n in (*flag.spellings, *flag.turn_off) if n not in omit]
        if not names:
            continue
        help_text = HELP.get(flag.field, "") if show_help else ""
        options: dict[str, Any] = {
            "dest": flag.field,
            "default": argparse.SUPPRESS,
            "help": help_text or argparse.SUPPRESS,
        }
        if flag.takes in ("switch", "set"):
            group.add_argument(*names, action=_Switch, off=flag.turn_off, **options)
            continue
        options["type"] = reader_of(flag)
        if flag.takes == "many":
            options["nargs"] = "+"
        elif flag.takes == "optional":
            options["nargs"] = "?"
        options["metavar"] = metavar_of(flag)
        group.add_argument(*names, **options)


def engine_args_from(namespace: argparse.Namespace, **also: Any) -> EngineArgs:
    """EngineArgs from what ``add_engine_flags`` left in a namespace; ``also`` wins over it."""
    given = vars(namespace)
    fields: dict[str, Any] = {}
    for flag in all_flags():
        if flag.is_understood and flag.field in given:
            value = given[flag.field]
            fields[flag.field] = tuple(value) if isinstance(value, list) else value
    return EngineArgs(**{**fields, **also})


def _check_configs(given: argparse.Namespace, version: str | None, notes: list[str]) -> None:
    """Put keys of older versions into today's words, and refuse those that vLLM does not know."""
    from .config_values import read_config
    from .older_flags import todays_keys

    values = vars(given)
    for flag in all_flags():
        value = values.get(flag.field) if flag.keys else None
        if isinstance(value, dict):
            todays = todays_keys(flag.spellings[0], value, version, notes)
            values[flag.field] = read_config(flag, todays)


def ignored_flags(namespace: argparse.Namespace) -> list[str]:
    """The given flags that change neither KV cache nor memory, long spelling."""
    given = vars(namespace)
    return [f.spellings[0] for f in all_flags() if f.effect == "none" and f.field in given]


def unsure_notes(namespace: argparse.Namespace) -> list[str]:
    """One note for each flag that 0.33 does not have, or that changes memory in unknown ways."""
    given = vars(namespace)
    notes: list[str] = given.get("flag_notes", [])
    return notes + [
        f"{flag.spellings[0]} is not modelled: {flag.why}"
        for flag in all_flags()
        if flag.effect == "unsure" and given.get(flag.field) not in (None, False)
    ]
