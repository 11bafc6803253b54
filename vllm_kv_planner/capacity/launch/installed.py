"""Which vLLM a program starts, found without starting it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from ...errors import UnsupportedError
from ...memory.versions import version_rules

_PACKAGE = re.compile(r"vllm(?:_cpu)?-(\d[\w.+]{0,80})\.dist-info", re.ASCII)


def installed_version(program: str) -> str | None:
    """vLLM's version in the environment that ``program`` lies in; None where it is not told.

    Both ``bin/vllm`` and ``bin/python`` of a virtual environment lie beside its packages.
    """
    root = os.path.dirname(os.path.dirname(program))
    real = os.path.dirname(os.path.dirname(os.path.realpath(program)))
    for place in dict.fromkeys((root, real)):
        found = set(_versions(os.path.join(place, "lib")))
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _versions(lib: str) -> Iterator[str]:
    try:
        for python in os.listdir(lib):
            if python.startswith("python3"):
                for each in os.listdir(os.path.join(lib, python, "site-packages")):
                    match = _PACKAGE.fullmatch(each)
                    if match is not None:
                        yield match[1]
    except OSError:
        return


def is_known(version: str) -> bool:
    """Whether engines of this version can be planned."""
    try:
        version_rules(version)
    except UnsupportedError:
        return False
    return True
