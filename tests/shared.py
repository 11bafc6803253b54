"""Where the reference data lies that is shared with developers and CI, but not shipped."""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def needs_shared() -> Path:
    """The folder, or a skip that says what is missing."""
    if not SHARED.is_dir():
        pytest.skip("needs the reference data in ../shared, which is not part of the repository")
    return SHARED


@cache
def config_files() -> dict[str, Path]:
    """Hub id to its published config.json."""
    index = SHARED / "configs" / "INDEX.tsv"
    if not index.is_file():
        return {}
    with index.open(encoding="utf-8", newline="") as file:
        return {
            row["hf_id"]: index.parent / row["file"] for row in csv.DictReader(file, delimiter="\t")
        }


def records(name: str) -> list[dict[str, Any]]:
    """The rows of one file of ground_truth; empty where the folder is absent."""
    path = SHARED / "ground_truth" / name
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
