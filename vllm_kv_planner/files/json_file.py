"""JSON files: data beside the code, and objects from files nobody vouches for.

The latter are read within bounds of time and memory; whatever is wrong becomes one ``ConfigError``
line: which file, what about it, what is valid.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, printable


def read_json(beside: str, name: str) -> Any:
    """The JSON file ``name`` in the folder of the module file ``beside`` (its ``__file__``)."""
    with open(os.path.join(os.path.dirname(beside), name), encoding="utf-8") as file:
        return json.load(file)


def find_line(beside: str, name: str, key: str) -> dict[str, Any] | None:
    """The object on the line of a ``.jsonl`` file whose ``id`` is ``key``, or None.

    ``key`` is in lower case; ids are matched without regard to case.
    """
    text = lines_text(beside, name)
    # Lower-casing ASCII moves nothing, so offsets into one copy hold in the other.
    lowered = lines_text(beside, name, lowered=True)
    start = lowered.find(b'\n{"id":' + json.dumps(key).encode() + b",")
    if start < 0:
        return None
    found: dict[str, Any] = json.loads(text[start + 1 : text.find(b"\n", start + 1)])
    return found


def lines_text(beside: str, name: str, *, lowered: bool = False) -> bytes:
    """The bytes of a ``.jsonl`` file, read once; as they are, or in lower case."""
    if name not in _LOADED:
        with open(os.path.join(os.path.dirname(beside), name), "rb") as file:
            text = file.read()
        _LOADED[name] = text, text.lower()
    return _LOADED[name][lowered]


_LOADED: dict[str, tuple[bytes, bytes]] = {}


def updated(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with the changes in them, objects key by key."""
    result = dict(values)
    for key, value in changes.items():
        old = result.get(key)
        nested = isinstance(value, Mapping) and isinstance(old, Mapping)
        result[key] = updated(old, value) if nested else value  # type: ignore[arg-type]
    return result


# Bounds on one file. The largest config.json known (nvidia/MiniMax-M3-NVFP4, which lists the
# quantization of every expert) is 3 MB with 60,000 values, nested 5 deep.
MAX_FILE_BYTES = 10_000_000
MAX_VALUES = 500_000
MAX_DEPTH = 100

_BINARY_NON_BLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def shown(value: object, limit: int = 60) -> str:
    """``value`` for a message: as JSON, on one line of at most ``limit`` printable characters."""
    if isinstance(value, str):
        text = f'"{value[:limit]}"' if len(value) <= limit else f'"{value[:limit]}…"'
    elif isinstance(value, (list, tuple)):
        text = f"a list of {len(value)}"
    elif isinstance(value, Mapping):
        text = "an object"
    elif value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, int) and value.bit_length() > 200:
        text = "a number of more than 60 digits"  # str() of a huge int is slow, or refused
    elif isinstance(value, float) and not math.isfinite(value):
        text = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    else:
        text = str(value)
    return printable(text)


def read_config_file(path: str) -> dict[str, Any]:
    """The JSON object in the file at ``path``.

    Raises ConfigError when it cannot be read, is no regular file (a pipe or device could
    hang or never end), is too large, or does not hold one JSON object.
    """
    config: dict[str, Any] = read_json_file(path, dict)
    return config


def read_json_file(path: str, kind: type) -> Any:
    """As ``read_config_file``, of a file that holds a ``kind``: an object or a list."""
    where = printable(path if len(path) <= 200 else path[:200] + "…")
    try:
        raw = read_regular_file(path, MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read ({error.strerror or error})") from None
    except ValueError:  # a NUL byte in the name, or half a surrogate pair
        raise ConfigError(f"{where}: not a usable file name") from None
    if raw is None:
        raise ConfigError(f"{where}: not a regular file, so not a config.json")
    return _parse(raw, where, kind)


def read_regular_file(path: str, limit: int) -> bytes | None:
    """Up to ``limit`` bytes; None for a pipe, a device or a folder. OSError, ValueError as open."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        return None
    # Non-blocking: should a pipe take the file's place meanwhile, open must not wait.
    with open(os.open(path, os.O_RDONLY | _BINARY_NON_BLOCKING), "rb") as file:
        return file.read(limit)


def parse_config(raw: bytes, where: str) -> dict[str, Any]:
    """The JSON object in ``raw``; ``where`` names its origin in messages.

    ``Infinity`` and ``NaN`` pass here, as published configs hold them in fields no planner
    reads (Nemotron-H's ``time_step_limit``); ``Config`` refuses them where a number is read.
    """
    config: dict[str, Any] = _parse(raw, where, dict)
    return config


def _parse(raw: bytes, where: str, kind: type) -> Any:
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(
            f"{where}: larger than {MAX_FILE_BYTES // 1_000_000} MB, so not a config.json"
        )
    # Each value costs up to 100 bytes of memory however short its text, so count before parsing.
    containers = raw.count(b"{") + raw.count(b"[")
    if raw.count(b",") + containers > MAX_VALUES:
        raise ConfigError(f"{where}: holds more than {MAX_VALUES:,} values, so not a config.json")
    try:
        config = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where}: not valid JSON ({error.msg}, line {error.lineno} column {error.colno})"
        ) from None
    except RecursionError:
        raise ConfigError(f"{where}: nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:  # Python refuses to convert integers of more than 4300 digits
        raise ConfigError(f"{where}: holds a number of thousands of digits") from None
    if not isinstance(config, kind):
        wanted = "a JSON object" if kind is dict else "a list"
        raise ConfigError(f"{where}: must hold {wanted}, holds {shown(config)}")
    if containers > MAX_DEPTH and _deeper_than(config, MAX_DEPTH):
        raise ConfigError(f"{where}: nested deeper than {MAX_DEPTH} levels")
    return config


def _deeper_than(root: Any, depth: int) -> bool:
    level: list[Any] = [root]
    for _ in range(depth):
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True
