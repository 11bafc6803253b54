"""``sweep --file``: a YAML file of axes, values for all rows, and explicit set-ups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import InputError
from ...files.yaml_file import read_yaml
from .grid import Setup
from .names import canonical, read_values

SETUPS = "setups"


def read_sweep_file(path: str) -> tuple[dict[str, list[Any]], list[Setup]]:
    """The axes by name, and the explicit set-ups.

    A list is an axis, anything else one value for all rows; ``setups`` holds mappings, each
    tried with all the axes.

    Raises:
        InputError: The file cannot be read, or something in it is wrong; says what and where.
        UnknownNameError: A name that nobody knows; names the nearest.
    """
    content = read_yaml(path, "--file")
    if not isinstance(content, dict) or not content:
        raise InputError(f"--file {path[:200]!r} must hold name: value lines")
    axes: dict[str, list[Any]] = {}
    setups: list[Setup] = []
    for key, value in content.items():
        if key == SETUPS:
            setups = _setups(value)
            continue
        where = f"--file: {str(key)[:60]}"
        name = canonical(str(key), where)
        if name in axes:
            raise InputError(f"{where}: {name} is there twice")
        axes[name] = read_values(name, value if isinstance(value, list) else [value], where)
    return axes, setups


def _setups(content: Any) -> list[Setup]:
    if not isinstance(content, list) or not content:
        raise InputError(f"--file: {SETUPS} must be a list of name: value mappings")
    return [_setup(each, f"--file: {SETUPS}[{number}]") for number, each in enumerate(content)]


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
    """Axes of the command line and of the file together.

    Raises:
        InputError: Both name one.
    """
    both = next((name for name in given if name in from_file), None)
    if both is not None:
        raise InputError(f"{both}: given on the command line and in --file; once is enough")
    return {name: list(values) for name, values in {**given, **from_file}.items()}
