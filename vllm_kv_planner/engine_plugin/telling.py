"""Lines in vLLM's own log, and errors of ours that end as one."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

MODE = "VLLM_KV_PLANNER"
"""``report``, ``enforce`` or ``enforce=strict``; not set or empty: nothing happens."""
_logger = logging.getLogger("vllm.kv_planner")


def say(text: str) -> None:
    """One line in vLLM's own log."""
    _logger.info("KV planner: %s", text)


def warn(text: str) -> None:
    """One warning line."""
    _logger.warning("KV planner: %s", text)


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, whose errors are one warning line each; its answer then is None."""

    @functools.wraps(function)
    def safe(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            from ..errors import one_line

            warn(one_line(f"{function.__name__}: {type(error).__name__}: {error}"))
            return None

    return safe
