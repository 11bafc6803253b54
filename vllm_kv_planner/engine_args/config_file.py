"""The YAML file of ``vllm serve --config FILE``, as command-line words.

Restates ``FlexibleArgumentParser.load_config_file`` of vLLM 0.33
(vllm/utils/argparse_utils.py).
"""

from __future__ import annotations

import json

from ..errors import InputError
from ..model.json_file import read_regular_file
from .flag_table import all_spellings
from .older_flags import older_names

_LARGEST = 1 << 20  # bytes; these files hold a few lines
_MOST_VALUES = 10_000


def read_config_file(path: str) -> list[str]:
    """Words in the file's order: ``port: 8000`` to ``--port 8000``.

    ``true`` gives the flag alone, ``false`` its ``--no-`` form where vLLM has one (else
    nothing, as vLLM does), lists several words, mappings JSON. The value of a key that is no flag
    hangs on it, ``--key=value``. Raises InputError for a file that is missing, too large, no YAML
    mapping, or when PyYAML is not installed.
    """
    if path.rsplit(".", 1)[-1] not in ("yaml", "yml"):
        raise InputError(f"--config: {path[:200]!r} must be a .yaml or .yml file")
    try:
        raw = read_regular_file(path, _LARGEST + 1)
        if raw is None:
            raise InputError(f"--config: {path[:200]!r} is not a regular file")
        if len(raw) > _LARGEST:
            raise InputError(f"--config: {path[:200]!r} is larger than 1 MiB")
        text = raw.decode("utf-8")
    except OSError as error:
        raise InputError(f"--config: cannot read {path[:200]!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"--config: cannot read {path[:200]!r}: not UTF-8 text") from None
    content = _load_yaml(text, path)
    if content is None:
        return []
    if not isinstance(content, dict):
        raise InputError(f"--config: {path[:200]!r} must hold flag: value lines")
    _check_size(content, path)
    words: list[str] = []
    known = frozenset((*all_spellings(), *older_names()))
    for key, value in content.items():
        if key == "config":
            raise InputError(f"--config: {path[:200]!r} names another config file")
        words += _words(str(key), value, known)
    return words


def _load_yaml(text: str, path: str) -> object:
    try:
        import yaml
    except ImportError:
        raise InputError(
            "--config needs PyYAML, which is not installed: pip install pyyaml"
        ) from None
    try:
        content: object = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = " ".join(str(error).split())[:120]
        raise InputError(f"--config: {path[:200]!r} is not YAML: {first}") from None
    return content


def _check_size(content: object, path: str) -> None:
    """Refuse what YAML aliases blow up, or tie into a circle."""
    waiting: list[object] = [content]
    seen = 0
    while waiting:
        seen += 1
        if seen > _MOST_VALUES:
            raise InputError(f"--config: {path[:200]!r} holds more than {_MOST_VALUES} values")
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


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
