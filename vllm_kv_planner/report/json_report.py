"""The plan as one JSON object: the contract other programs build on."""

from __future__ import annotations

import json

from ..plan_types import Plan


def to_json(plan: Plan) -> str:
    """The plan's dictionary, indented, without a final newline."""
    return json.dumps(plan.to_dict(), indent=2, allow_nan=False)
