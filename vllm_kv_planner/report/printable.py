"""A plan that is safe to print: what configs and paths put into it, escaped."""

from __future__ import annotations

from typing import Any

from ..errors import printable
from ..planning.types import Plan
from ..records import fields, is_dataclass, replace


def printable_plan(plan: Plan) -> Plan:
    """The plan with control characters in its texts escaped; JSON does that by itself."""
    safe = _safe(plan)
    assert isinstance(safe, Plan)
    return safe


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, tuple):
        return tuple(map(_safe, value))
    if isinstance(value, dict):
        return {key: _safe(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _safe(getattr(value, f.name)) for f in fields(value)})
    return value
