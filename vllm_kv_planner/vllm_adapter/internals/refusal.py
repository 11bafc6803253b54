"""What vLLM raised, as one line for a person."""

from __future__ import annotations

from typing import Any

from ...errors import PlannerError
from .names import one_line, version
from .worker import RankError

# What vLLM refuses on purpose; anything else is a failure of this adapter or of the model's code.
_REFUSALS = (ValueError, NotImplementedError, AssertionError, ImportError, RuntimeError, OSError)


def explain(error: BaseException) -> str:
    """One line: vLLM's own reason, and who says it."""
    if isinstance(error, (PlannerError, RankError)):
        return str(error)
    reason = one_line(reason_of(error))
    if isinstance(error, _REFUSALS) and reason:
        return f"vLLM {version()} refuses: {reason}"
    return f"vLLM {version()} failed while planning: {type(error).__name__}: {reason}".rstrip(": ")


def reason_of(error: BaseException) -> str:
    """The message; of pydantic's report only what each check itself said."""
    details: Any = getattr(error, "errors", None)
    if callable(details):
        try:
            messages = [str(item["msg"]) for item in details()]
        except (TypeError, KeyError):
            return str(error)
        return "; ".join(message.removeprefix("Value error, ") for message in messages)
    return str(error)
