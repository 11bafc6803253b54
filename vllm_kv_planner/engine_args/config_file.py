"""The YAML file of ``vllm serve --config FILE``, as command-line words.

Restates ``FlexibleArgumentParser.load_config_file`` of vLLM 0.33
(vllm/utils/argparse_utils.py).
"""

from __future__ import annotations

import json

from ..errors import InputError
from ..yaml_file import read_yaml
from .flag_table import all_spellings
from .older_flags import older_names


def read_config_file(path: str) -> list[str]:
    """Words in the file's order: ``port: 8000`` to ``--port 8000``.

    ``true`` gives the flag alone, ``false`` its ``--no-`` form where vLLM has one (else
    nothing, as vLLM does), lists several words, mappings JSON. The value of a key that is no flag
    hangs on it, ``--key=value``. Raises InputError for a file that is missing, too large, no YAML
    mapping, or when PyYAML is not installed.
    """
    if path.rsplit(".", 1)[-1] not in ("yaml", "yml"):
        raise InputError(f"--config: {path[:200]!r} must be a .yaml or .yml file")
    content = read_yaml(path, "--config")
    if content is None:
        return []
    if not isinstance(content, dict):
        raise InputError(f"--config: {path[:200]!r} must hold flag: value lines")
    words: list[str] = []
    known = frozenset((*all_spellings(), *older_names()))
    for key, value in content.items():
        if key == "config":
            raise InputError(f"--config: {path[:200]!r} names another config file")
        words += _words(str(key), value, known)
    return words


def _words(key: str, value: object, known: frozenset[str]) -> list[str]:
    flag = "--" + key
    name = flag.partition(".")[0].replace("_", "-")
    if not any(each.startswith(name) for each in known):  # argparse takes beginnings, too
        return [flag if value is True else f"{flag}={json.dumps(value, default=str)}"]
    if isinstance(value, bool):
        if value:
            return [flag]
        return [f"--no-{key}"] if f"--no-{key}" in known else []
    if isinstance(value, list):
        return [flag, *(str(item) for item in value)] if value else []
    if isinstance(value, dict):
        return [flag, json.dumps(value, default=str)]
    return [flag, str(value)]
