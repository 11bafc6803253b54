"""The plan as one CSV row under its header, nested keys joined by dots."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from ..plan_types import Plan


def to_csv(plan: Plan) -> str:
    """Header and row; no final newline. Lists (groups, notes) are JSON in their cell."""
    cells = list(flat(plan.to_dict(), ""))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([name for name, _ in cells])
    writer.writerow([value for _, value in cells])
    return out.getvalue().rstrip("\n")


def flat(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """``kv_cache.num_gpu_blocks`` and its value, for every leaf."""
    for key, item in value.items():
        if isinstance(item, dict):
            yield from flat(item, f"{prefix}{key}.")
        else:
            plain = item is None or isinstance(item, str | int | float)
            yield f"{prefix}{key}", item if plain else json.dumps(item)
