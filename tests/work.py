"""How much work a call takes, counted in steps and bytes, which no busy machine changes."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType


def calls_in(function: Callable[[], object]) -> int:
    """Calls made of Python and C functions until ``function`` ends; what it raises goes on."""
    made = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return made


def lines_in(function: Callable[[], object], *, of: str) -> int:
    """Lines executed in files whose path holds ``of``: loops count, calls of C functions do not."""
    run = 0

    def trace(frame: FrameType, event: str, arg: object) -> object:
        nonlocal run
        if event == "call":
            return trace if of in frame.f_code.co_filename else None
        run += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return run


def bytes_in(function: Callable[[], object]) -> int:
    """Most bytes held at once while ``function`` ran."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
