"""The plan as one JSON object: the contract other programs build on."""

from __future__ import annotations

import json

from ..planning.types import Plan


def to_json(*plans: Plan) -> str:
    """The plan's dictionary, indented, without a final newline; an array of them for several."""
    objects = [plan.to_dict() for plan in plans]
    return json.dumps(objects[0] if len(objects) == 1 else objects, indent=2, allow_nan=False)
