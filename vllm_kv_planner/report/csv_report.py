"""The plan as one CSV row under its header, nested keys joined by dots."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from ..planning.types import Plan
from .printable import printable_plan


def to_csv(*plans: Plan) -> str:
    """Header and rows; no final newline. Lists (groups, notes) are JSON in their cell."""
    safe = [printable_plan(plan) for plan in plans]
    rows = [dict(flat({**plan.to_dict(), **whole_cells(plan)}, "")) for plan in safe]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def whole_cells(plan: Plan) -> dict[str, Any]:
    """What differs from plan to plan in the parts it names, in one cell: provenance and host."""
    plain = plan.to_dict()
    provenance = json.dumps(plain["memory"]["provenance"])
    host = None if plan.host is None else json.dumps(plain["host"])
    return {"memory": {**plain["memory"], "provenance": provenance}, "host": host}


def flat(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """``kv_cache.num_gpu_blocks`` and its value, for every leaf."""
    for key, item in value.items():
        if isinstance(item, dict):
            yield from flat(item, f"{prefix}{key}.")
        else:
            plain = item is None or isinstance(item, str | int | float)
            yield f"{prefix}{key}", item if plain else json.dumps(item)
