"""Data files that lie beside the code, read without importing the machinery for it."""

from __future__ import annotations

import json
import os
from typing import Any


def read_json(beside: str, name: str) -> Any:
    """The JSON file ``name`` in the folder of the module file ``beside`` (its ``__file__``)."""
    with open(os.path.join(os.path.dirname(beside), name), encoding="utf-8") as file:
        return json.load(file)
