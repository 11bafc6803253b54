"""vLLM's engine flags on an argparse parser, with vLLM's spellings, values and refusals.

Every flag of ``vllm serve`` is accepted. Those that change the KV cache or memory fill
EngineArgs; the others are remembered by name only. Source of how values are read:
``_compute_kwargs`` and the functions before it in vllm/engine/arg_utils.py (0.33).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, NoReturn

from ..errors import InputError
from ..units import parse_quantity, parse_quantity_or_auto
from ..version import VLLM
from .engine_args import EngineArgs
from .flag_table import Flag, all_flags, check_version


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
    group = parser.add_argument_group("vLLM engine flags", f"as in vllm serve {VLLM}")
    for flag in all_flags():
        names = [n for n in (*flag.spellings, *flag.turn_off) if n not in omit]
        if not names:
            continue
        options: dict[str, Any] = {
            "dest": flag.field,
            "default": argparse.SUPPRESS,
            "help": (show_help and flag.help) or argparse.SUPPRESS,
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
    from .flag_table import todays_keys
    from .value_types import read_config

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


_BARE_QUANTITY = re.compile(r"\b\d+(?:\.\d+)?[kKmMgGtT]\b")
_JSON_STRING = re.compile(r'("(?:[^"\\]|\\.)*")')


def reader_of(flag: Flag) -> Callable[[str], Any]:
    """The function argparse calls on each value; it raises ArgumentTypeError, one line."""
    read = _READERS[flag.type]

    def reader(text: str) -> Any:
        if flag.can_unset and text in ("", "None"):
            return None
        try:
            value = read(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        if flag.choices and value not in flag.choices:
            valid = ", ".join(str(choice) for choice in flag.choices)
            raise argparse.ArgumentTypeError(f"{text[:40]!r}; valid: {valid}")
        return value

    return reader


def metavar_of(flag: Flag) -> str:
    """What ``--help`` writes for the value."""
    if flag.choices and len(flag.choices) <= 6:
        return "{" + ",".join(str(choice) for choice in flag.choices) + "}"
    return {"int": "N", "float": "X", "quantity": "N[kKmMgG]", "json": "JSON"}.get(
        flag.type, flag.type.upper().replace("_OR_", "|")
    )


def _number(kind: type, words: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise InputError(f"{text[:40]!r} is not {words}") from None

    return read


def _read_json_value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{text[:60]!r} is not JSON ({str(error)[:60]})") from None


def _read_json(text: str) -> Any:
    value = _read_json_value(text)
    if not isinstance(value, dict):
        raise InputError(f"{text[:60]!r} is not a JSON object")
    return value


def _read_config(text: str) -> Any:
    """A JSON object in which bare numbers may carry a suffix: ``{"cpu_bytes": 80g}``.

    As ``_expand_json_human_readable_numbers`` in vllm/engine/arg_utils.py (0.33).
    """
    parts = _JSON_STRING.split(text)
    for i in range(0, len(parts), 2):  # what stands outside strings
        parts[i] = _BARE_QUANTITY.sub(lambda m: str(parse_quantity(m.group())), parts[i])
    return _read_json("".join(parts))


def _read_json_or_text(text: str) -> Any:
    if text.lstrip().startswith("{"):
        return _read_json(text)
    raise InputError(f"{text[:60]!r}: only a JSON object can be planned for")


_READERS: dict[str, Callable[[str], Any]] = {
    "text": str,
    "lower_text": lambda text: text.lower().replace("-", "_"),
    "int": _number(int, "a whole number"),
    "float": _number(float, "a number"),
    "quantity": parse_quantity,
    "quantity_or_auto": parse_quantity_or_auto,
    "json": _read_json,
    "json_value": _read_json_value,
    "json_or_text": _read_json_or_text,
    "config": _read_config,
}
