"""The YAML file of ``vllm serve --config FILE``, as command-line words.

Restates ``FlexibleArgumentParser.load_config_file`` of vLLM 0.33
(vllm/utils/argparse_utils.py).
"""

from __future__ import annotations

import json

from ..errors import InputError, printable
from ..files.yaml_file import read_yaml
from .flag_table import all_flags, all_spellings
from .older_flags import older_names


def read_config_file(path: str, *, drops_false: bool, notes: list[str]) -> list[str]:
    """Words in the file's order: ``port: 8000`` to ``--port 8000``.

    ``true`` gives the flag alone, lists several words, mappings JSON. ``false`` has no effect with
    ``vllm serve``, whose outer parser reads the file and knows no ``--no-x``; the server module
    takes it where the key is written with dashes.

    Args:
        path: The file.
        drops_false: Whether ``vllm serve`` reads it.
        notes: Lines without effect are told here.

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
