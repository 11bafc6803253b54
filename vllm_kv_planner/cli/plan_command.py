"""``vllm-kv-planner plan``: one engine, planned and printed."""

from __future__ import annotations

from collections.abc import Sequence

from .output import rendered, say
from .planner_flags import parsed, request_of, request_of_command


def run(arguments: Sequence[str]) -> int:
    """Parse, plan, print; returns the exit code."""
    from ..api import plan
    from ..planning.document import Plans

    given, pasted = parsed("plan", arguments)
    if pasted:
        requests = [request_of_command(given, pasted)]
    else:
        named = given.model_tags or [getattr(given, "model", None)]
        requests = [request_of(given, model) for model in named]
    plans = tuple(map(plan, requests))
    say(rendered(Plans(plans), given.format))
    return 0 if all(plan.fits for plan in plans) else 1
