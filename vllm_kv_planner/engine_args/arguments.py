"""vLLM's own command-line liberties, taken out before argparse sees the words.

Restates ``FlexibleArgumentParser.parse_args`` of vLLM 0.33 (vllm/utils/argparse_utils.py):
underscores for dashes, ``-O3``, dotted JSON (``--speculative-config.method ngram``), list
elements (``--x.y+ a,b``), and ``--config FILE``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import InputError
from .config_file import read_config_file
from .quantities import parse_quantity


def prepare_arguments(words: Sequence[str]) -> list[str]:
    """Command-line words in the one spelling argparse knows; later words win, as in vLLM.

    The flags of a ``--config`` file come first, so that the command line wins over them.
    Raises InputError for a config file that cannot be used or a dotted flag without a value.
    """
    args = _pull_config(list(words))
    args = [part for i, arg in enumerate(args) for part in _respell(arg, args[i + 1 : i + 2])]
    return _gather_dotted(args)


def _pull_config(args: list[str]) -> list[str]:
    for arg in args:
        if arg.startswith("--config="):
            raise InputError("vLLM does not read --config=FILE; write --config FILE")
    if "--config" not in args:
        return args
    if args.count("--config") > 1:
        raise InputError("more than one --config file")
    at = args.index("--config")
    if at + 1 == len(args):
        raise InputError("--config: no file named")
    rest = args[:at] + args[at + 2 :]
    # A model given by position stays in front.
    head = 1 if rest and not rest[0].startswith("-") else 0
    return rest[:head] + read_config_file(args[at + 1]) + rest[head:]


def _respell(arg: str, following: list[str]) -> list[str]:
    if arg.startswith("--"):
        key, equals, value = arg.partition("=")
        name, dot, path = key.partition(".")
        return ["--" + name[2:].replace("_", "-") + dot + path + equals + value]
    if arg == "-O" and following and following[0] in ("0", "1", "2", "3"):
        return ["--optimization-level"]
    if arg.startswith("-O") and arg != "-O":
        return ["--optimization-level", arg[3:] if arg[2] == "=" else arg[2:]]
    return [arg]


def _gather_dotted(args: list[str]) -> list[str]:
    """``--a.b 1 --a.c 2`` to ``--a {"b": 1, "c": 2}``, at the end as vLLM puts it."""
    plain: list[str] = []
    gathered: dict[str, dict[str, Any]] = {}
    words = iter(args)
    for arg in words:
        key, equals, text = arg.partition("=")
        if not _is_dotted(key):
            plain.append(arg)
            continue
        if not equals:
            following = next(words, None)
            if following is None:
                raise InputError(f"{key}: expected a value")
            text = following
        flag, *path = key.removesuffix("+").split(".")
        value: Any = text.split(",") if key.endswith("+") else _value(text)
        for part in reversed(path):
            value = {part: value}
        _merge(gathered.setdefault(flag, {}), value)
    for flag, merged in gathered.items():
        plain += [flag, json.dumps(merged)]
    return plain


def _is_dotted(key: str) -> bool:
    return key.startswith("-") and "." in key and key.lstrip("-")[:1].isalpha()


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        try:
            return parse_quantity(text)
        except InputError:
            return text


def _merge(into: dict[str, Any], update: dict[str, Any]) -> None:
    for key, value in update.items():
        old = into.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value)
        elif isinstance(value, list) and isinstance(old, list):
            old.extend(value)
        else:
            into[key] = value
