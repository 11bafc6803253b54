"""Read a YAML file nobody vouches for, within bounds of time and memory."""

from __future__ import annotations

from .errors import InputError
from .model.json_file import read_regular_file

LARGEST = 1 << 20
"""Bytes; these files hold a few lines, or some thousand."""
MOST_VALUES = 10_000


def read_yaml(path: str, flag: str) -> object:
    """What the file holds: plain values, lists and dictionaries; None where it is empty.

    Args:
        path: The file.
        flag: Names it in messages, such as ``--config``.

    Raises:
        InputError: The file is missing, too large or no YAML, or PyYAML is not installed.
    """
    shown = f"{path[:200]!r}"
    try:
        raw = read_regular_file(path, LARGEST + 1)
        if raw is None:
            raise InputError(f"{flag}: {shown} is not a regular file")
        if len(raw) > LARGEST:
            raise InputError(f"{flag}: {shown} is larger than 1 MiB")
        text = raw.decode("utf-8")
    except OSError as error:
        raise InputError(f"{flag}: cannot read {shown}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{flag}: cannot read {shown}: not UTF-8 text") from None
    except InputError:
        raise
    except ValueError:  # a NUL byte in the name
        raise InputError(f"{flag}: {shown} is not a usable file name") from None
    content = _parsed(text, flag, shown)
    _check_size(content, flag, shown)
    return content


def _parsed(text: str, flag: str, shown: str) -> object:
    try:
        import yaml
    except ImportError:
        raise InputError(
            f"{flag} needs PyYAML, which is not installed: pip install pyyaml"
        ) from None
    try:
        content: object = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = " ".join(str(error).split())[:120]
        raise InputError(f"{flag}: {shown} is not YAML: {first}") from None
    return content


def _check_size(content: object, flag: str, shown: str) -> None:
    """Refuse what YAML aliases blow up, or tie into a circle."""
    waiting: list[object] = [content]
    seen = 0
    while waiting:
        seen += 1
        if seen > MOST_VALUES:
            raise InputError(f"{flag}: {shown} holds more than {MOST_VALUES} values")
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
