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


class PreparedWords(list[str]):
    """Words for argparse, and what a reader should know of them."""

    def __init__(self, words: Sequence[str], notes: Sequence[str] = ()) -> None:
        super().__init__(words)
        self.notes = list(notes)


def prepare_arguments(words: Sequence[str], program: str = "ours") -> PreparedWords:
    """Command-line words in the one spelling argparse knows; later words win, as in vLLM.

    The flags of a ``--config`` file come first, so that the command line wins over them.

    Args:
        words: Behind the program.
        program: ``serve`` and ``module`` read a config file each in their own way; ``ours``: this
            planner's own line, read as ``serve`` but for where the model stands.

    Raises:
        InputError: A config file that cannot be used, or a dotted flag without a value.
    """
    notes: list[str] = []
    args = _pull_config(list(words), program, notes)
    args = [part for i, arg in enumerate(args) for part in _respell(arg, args[i + 1 : i + 2])]
    return PreparedWords(_gather_dotted(args), notes)


def _pull_config(args: list[str], program: str, notes: list[str]) -> list[str]:
    """As ``_pull_args_from_config``: the file's words behind a model that stands in front."""
    for arg in args:
        if arg.startswith("--config="):
            raise InputError("vLLM does not read --config=FILE; write --config FILE")
    if program == "serve":
        args = _model_first(args)
    if "--config" not in args:
        return args
    if args.count("--config") > 1:
        raise InputError("more than one --config file")
    at = args.index("--config")
    if at + 1 == len(args):
        raise InputError("--config: no file named")
    of_file = read_config_file(args[at + 1], drops_false=program != "module", notes=notes)
    head = 0 if args[0].startswith("-") else 1
    if program == "serve" and not head and "--model" not in of_file:
        raise InputError(
            "No model specified! Please specify model either as a positional argument or in a "
            "config file (before all other words, where --config is given)"
        )
    rest = args[:at] + args[at + 2 :]
    return rest[:head] + of_file + rest[head:]


def _model_first(args: list[str]) -> list[str]:
    """``--model X`` of ``vllm serve`` is moved to the front, as its ``parse_args`` does."""
    for i, arg in enumerate(args):
        if arg == "--model" and i + 1 < len(args):
            return [args[i + 1], *args[:i], *args[i + 2 :]]
        if arg.startswith("--model=") and arg != "--model=":
            return [arg.removeprefix("--model="), *args[:i], *args[i + 1 :]]
    return args


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
