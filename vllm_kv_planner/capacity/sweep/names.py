"""Names and values of a set-up as people write them: ``max-model-len=8K,32K``, or a YAML file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from ...engine_args.flag_table import Flag, all_flags
from ...engine_args.unknown_flags import unknown_flag_message
from ...errors import InputError, UnknownNameError, nearest
from ...files.json_file import shown
from ...files.yaml_file import read_yaml
from .work import OWN_NAMES, Setup

NOT_GIVEN = "none"
"""As a value: the flag is left out."""
_ON = ("true", "yes", "on", "1")
_OFF = ("false", "no", "off", "0")
_FIXED = {
    "revision": "of all models; sweep each revision by itself",
    "hf_config_path": "of all models; name the folder as the model instead",
}


def canonical(name: str, where: str) -> str:
    """vLLM's name of a flag, however it is spelt, or one of ``OWN_NAMES``.

    Refuses what nobody knows (naming the nearest), what changes nothing that is planned, and what
    can be no part of a set-up.
    """
    if not isinstance(name, str):  # of a caller's dictionary
        raise InputError(f"{where}: {shown(name)} is not the name of a flag")
    folded = name.lstrip("-").replace("-", "_")
    own = folded.removesuffix("s")
    if own in OWN_NAMES:
        return own
    flag = _flags().get(folded)
    if flag is None:
        raise UnknownNameError(f"{where}: {_unknown(folded)}")
    if flag.field in _FIXED:
        raise InputError(f"{where}: {flag.field} is {_FIXED[flag.field]}")
    if not flag.is_understood:
        raise InputError(f"{where}: {flag.field} changes nothing that is planned; leave it out")
    return flag.field


def _unknown(name: str) -> str:
    near = nearest(name, OWN_NAMES, 1, 0.7)
    if near:
        return f"unknown name {name[:60]!r}; did you mean {near[0]}?"
    return unknown_flag_message("--" + name)


@cache
def _flags() -> dict[str, Flag]:
    """Every flag by its field and by each spelling, dashes as underscores."""
    by_spelling = {
        spelling.lstrip("-").replace("-", "_"): flag
        for flag in all_flags()
        for spelling in flag.spellings
    }
    return {**by_spelling, **{flag.field: flag for flag in all_flags()}}


def read_value(name: str, text: str, where: str) -> Any:
    """The value of one name, as its flag reads it; None for ``none``."""
    if name == "model":
        return text
    if text.lower() == NOT_GIVEN:
        return None
    if name in OWN_NAMES:
        return text
    flag = _flags()[name]
    if flag.takes in ("switch", "set"):
        if text.lower() not in (*_ON, *_OFF):
            raise InputError(f"{where}: {text[:40]!r}; valid: true, false, none")
        return text.lower() in _ON
    spelling = flag.spellings[0]
    many = flag.takes == "many"
    words = [spelling, *text.split()] if many else [f"{spelling}={text}"]
    try:
        value = getattr(_parser().parse_args(words), name)
    except InputError as error:
        raise type(error)(f"{where}: {error}") from None
    return tuple(value) if isinstance(value, list) else value


@cache
def _parser() -> Any:
    from ...engine_args.flags import FlagParser, add_engine_flags

    parser = FlagParser(prog="sweep", add_help=False)
    add_engine_flags(parser, show_help=False)
    return parser


def read_axis(text: str) -> tuple[str, list[Any]]:
    """``--grid NAME=VALUE,VALUE``: the name and its values."""
    name, equals, values = text.partition("=")
    where = f"--grid {name[:60]}"
    if not equals or not name:
        raise InputError(f"--grid {text[:60]!r}: expected NAME=VALUE,VALUE")
    known = canonical(name, where)
    return known, [read_value(known, each, where) for each in split_values(values, where)]


def split_values(text: str, where: str) -> list[str]:
    """Values between commas; those inside JSON are part of it."""
    parts = [""]
    depth, quoted, escaped = 0, False, False
    for letter in text:
        if letter == "," and depth == 0 and not quoted:
            parts.append("")
            continue
        parts[-1] += letter
        if quoted:
            quoted = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"' and depth:
            quoted = True
        else:
            depth += (letter in "{[") - (letter in "}]")
    parts = [each.strip() for each in parts]
    if "" in parts:
        raise InputError(f"{where}: an empty value in {text[:60]!r}; none leaves the flag out")
    return parts


def text_of(value: Any, where: str) -> str:
    """A value of a YAML file as one would write it on the command line; no dates."""
    if value is None:
        return NOT_GIVEN
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, dict):
        return json.dumps(value, default=str)
    if isinstance(value, list) and all(isinstance(each, str | int) for each in value):
        return " ".join(map(str, value))
    raise InputError(f"{where}: {str(value)[:60]!r} is not a value of a flag")


def read_values(name: str, values: Sequence[Any], where: str) -> list[Any]:
    """The values of one name in a YAML file."""
    if name == "vllm_version" and any(isinstance(each, float) for each in values):
        raise InputError(f"{where}: a version is text: write it in quotes, such as '0.30'")
    return [read_value(name, text_of(each, where), where) for each in values]


SETUPS = "setups"


def read_sweep_file(path: str) -> tuple[dict[str, list[Any]], list[Setup]]:
    """The axes by name, and the explicit set-ups.

    A list is an axis, anything else one value for all rows; ``setups`` holds mappings, each
    tried with all the axes.
    """
    content = read_yaml(path, "--file")
    if not isinstance(content, dict) or not content:
        raise InputError(f"--file {path[:200]!r} must hold name: value lines")
    axes: dict[str, list[Any]] = {}
    setups: list[Setup] = []
    for key, value in content.items():
        if key == SETUPS:
            if not isinstance(value, list) or not value:
                raise InputError(f"--file: {SETUPS} must be a list of name: value mappings")
            setups = [_setup(each, f"--file: {SETUPS}[{n}]") for n, each in enumerate(value)]
            continue
        where = f"--file: {str(key)[:60]}"
        name = canonical(str(key), where)
        if name in axes:
            raise InputError(f"{where}: {name} is there twice")
        axes[name] = read_values(name, value if isinstance(value, list) else [value], where)
    return axes, setups


def _setup(content: Any, where: str) -> Setup:
    if not isinstance(content, dict) or not content:
        raise InputError(f"{where} must hold name: value lines")
    setup: dict[str, Any] = {}
    for key, value in content.items():
        inside = f"{where} {str(key)[:60]}"
        name = canonical(str(key), inside)
        if name in setup:
            raise InputError(f"{inside}: {name} is there twice")
        (setup[name],) = read_values(name, [value], inside)
    return setup


def merged(
    given: Mapping[str, Sequence[Any]], from_file: Mapping[str, Sequence[Any]]
) -> dict[str, list[Any]]:
    """Axes of the command line and of the file together; no name may be in both."""
    both = next((name for name in given if name in from_file), None)
    if both is not None:
        raise InputError(f"{both}: given on the command line and in --file; once is enough")
    return {name: list(values) for name, values in {**given, **from_file}.items()}
