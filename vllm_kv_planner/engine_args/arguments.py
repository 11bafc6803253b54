"""vLLM's own command-line liberties, taken out before argparse sees the words.

Restates vllm/utils/argparse_utils.py of vLLM 0.33: ``FlexibleArgumentParser.parse_args``
(underscores for dashes, ``-O3``, dotted JSON as in ``--speculative-config.method ngram``, list
elements as in ``--x.y+ a,b``) and its ``load_config_file`` (``--config FILE``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import InputError, printable
from ..files.yaml_file import read_yaml
from ..units import parse_quantity
from .flag_table import all_flags, all_spellings, older_names


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


def read_config_file(path: str, *, drops_false: bool, notes: list[str]) -> list[str]:
    """Words in the file's order: ``port: 8000`` to ``--port 8000``.

    ``true`` gives the flag alone, lists several words, mappings JSON. ``false`` has no effect with
    ``vllm serve``, whose outer parser reads the file and knows no ``--no-x``; the server module
    takes it where the key is written with dashes.

    Raises:
        InputError: A file that is missing, too large, no YAML mapping or no configuration of
            vLLM's, or a value that vLLM refuses; PyYAML is not installed.
    """
    shown = f"{path[:200]!r}"
    if path.rsplit(".", 1)[-1] not in ("yaml", "yml"):
        raise InputError(f"--config: {shown} must be a .yaml or .yml file")
    content = read_yaml(path, "--config")
    if not isinstance(content, dict):
        what = "is empty, which vLLM refuses; it" if content is None else ""
        raise InputError(f"--config: {shown} {what} must hold flag: value lines".replace("  ", " "))
    known = frozenset((*all_spellings(), *older_names()))
    foreign = [each for each in content.values() if each is False or isinstance(each, (dict, list))]
    if (foreign or not content) and not any(_is_known(key, known) for key in content):
        keys = ", ".join(str(key)[:40] for key in list(content)[:5])
        raise InputError(
            f"--config: {shown} holds no flag of vllm serve (its keys: {printable(keys)}): "
            "it is no configuration file of vLLM's"
        )
    words: list[str] = []
    for key, value in content.items():
        if not isinstance(key, str):
            raise InputError(f"--config: {shown}: the key {str(key)[:40]!r} is no text")
        if value is False and (drops_false or f"--no-{key}" not in known):
            notes.append(
                f"--config: {printable(key[:60])}: false has no effect: vLLM drops the line; "
                f"{_instead(key)}"
            )
        elif key == "config":
            notes.append("--config: config: has no effect: vLLM reads no second file")
        else:
            words += _words(key, value)
    return words


def _is_known(key: object, known: frozenset[str]) -> bool:
    name = "--" + str(key).partition(".")[0].replace("_", "-")
    return any(each.startswith(name) for each in known)  # argparse takes beginnings, too


def _instead(key: str) -> str:
    name = "--" + key.replace("_", "-")
    for flag in all_flags():
        if name in flag.spellings and flag.turn_off:
            return f"{flag.turn_off[0][2:]}: true turns it off"
    return "leave it out"


def _words(key: str, value: object) -> list[str]:
    flag = "--" + key
    if isinstance(value, bool):
        return [flag] if value else [f"--no-{key}"]
    if isinstance(value, list):
        return [flag, *(str(item) for item in value)] if value else []
    if isinstance(value, dict):
        return [flag, json.dumps(value, default=str)]
    name = flag.replace("_", "-")
    if str(value).lower() in ("true", "false") and any(
        each.takes in ("switch", "set") and name in (*each.spellings, *each.turn_off)
        for each in all_flags()
    ):
        raise InputError(f"--config: {key}: {value!r} is a text; vLLM takes true without quotes")
    return [flag, str(value)]
