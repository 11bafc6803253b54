"""vLLM's engine flags on an argparse parser, with vLLM's spellings and refusals.

Every flag of ``vllm serve`` is accepted. Those that change the KV cache or memory fill
EngineArgs; the others are remembered by name only.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, NoReturn

from ..errors import InputError, UnknownNameError
from .engine_args import EngineArgs
from .flag_help import HELP
from .flag_table import Flag, all_flags, all_spellings, unknown_flag_message
from .quantities import parse_quantity, parse_quantity_or_auto


class FlagParser(argparse.ArgumentParser):
    """An argparse parser that raises InputError instead of printing and leaving.

    With vLLM's engine flags on it, it also names flags that vLLM 0.33 does not have in
    ``flag_notes`` of its namespace, see ``unknown_flags.py``; other parsers refuse them.
    """

    has_engine_flags = False

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """As argparse, after unknown flags were sorted out."""
        if not self.has_engine_flags or args is None or not any(map(self._is_doubtful, args)):
            return super().parse_args(args, namespace)
        from .unknown_flags import sort_out

        spellings = frozenset(all_spellings())
        own = [name for name in self._option_string_actions if name not in spellings]
        sorted_out = sort_out(args, own, self._knows)
        given = super().parse_args(sorted_out.words)
        if not any(vars(given).get(name) for name in _MODEL_NAMES):
            given = super().parse_args(sorted_out.give_back())
        given.flag_notes = sorted_out.notes
        return given

    def _knows(self, name: str) -> bool:
        known = self._option_string_actions
        if name in known or (name[:2] != "--" and name[:2] in known):
            return True  # the second as in -qawq
        return self.allow_abbrev and any(each.startswith(name) for each in known)

    def _is_doubtful(self, word: str) -> bool:
        """A flag not known as it stands, or the value that older versions took for a switch."""
        if word[:1] != "-":
            return word.lower() in ("true", "false")
        return word not in self._option_string_actions

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
        """Raise InputError; for an unknown flag UnknownNameError with the nearest names."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            first = unknown.split()[0] if unknown.split() else unknown
            if first.startswith("-"):
                raise UnknownNameError(unknown_flag_message(first, self._option_string_actions))
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
        if flag.is_understood:
            options["type"] = _reader(flag)
        if flag.takes == "many":
            options["nargs"] = "+"
        elif flag.takes == "optional":
            options["nargs"] = "?"
        options["metavar"] = _metavar(flag)
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


def _metavar(flag: Flag) -> str:
    if flag.choices and len(flag.choices) <= 6:
        return "{" + ",".join(str(choice) for choice in flag.choices) + "}"
    return {"int": "N", "float": "X", "quantity": "N[kKmMgG]", "json": "JSON"}.get(
        flag.type, flag.type.upper().replace("_OR_", "|")
    )


def _reader(flag: Flag) -> Callable[[str], Any]:
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


def _read_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{text[:40]!r} is not a whole number") from None


def _read_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text[:40]!r} is not a number") from None


def _read_json(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{text[:60]!r} is not JSON ({str(error)[:60]})") from None
    if not isinstance(value, dict):
        raise InputError(f"{text[:60]!r} is not a JSON object")
    return value


_MODEL_NAMES = ("model_tag", "model_tags", "model", "custom")
"""Where a namespace holds a model; without any of them a word is given back."""
_BARE_QUANTITY = re.compile(r"\b\d+(?:\.\d+)?[kKmMgGtT]\b")
_JSON_STRING = re.compile(r'("(?:[^"\\]|\\.)*")')


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
    "int": _read_int,
    "float": _read_float,
    "quantity": parse_quantity,
    "quantity_or_auto": parse_quantity_or_auto,
    "json": _read_json,
    "json_or_text": _read_json_or_text,
    "config": _read_config,
}
