"""A progress bar on a terminal; nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

SECONDS_BETWEEN = 0.2
"""Between two looks of the bar: a terminal over a slow line must not slow the run."""
LOOK_EVERY = 100
"""Requests between two looks at the clock."""


@contextmanager
def progress_bar(
    total: int | None, unit: str, *, wanted: bool = True, look_every: int = LOOK_EVERY
) -> Iterator[Callback | None]:
    """What to call with the number that is done so far; None where nobody would see a bar.

    Args:
        total: How many there will be at most; None: unknown.
        unit: What is counted, in the plural.
        wanted: False: no bar, whatever there is to see it.
        look_every: How many are done between two looks at the clock; 1 where each takes long.
    """
    stream = sys.stderr
    if not wanted or stream is None or not stream.isatty():
        yield None
        return
    bar: Any
    try:
        from tqdm import tqdm
    except ImportError:
        bar = _Line(total, unit, stream)
    else:
        bar = _Tqdm(tqdm(total=total, unit=f" {unit}", file=stream, leave=False, unit_scale=True))
    throttled = _Throttled(bar.show, look_every)
    try:
        yield throttled
    finally:
        bar.close()


Callback = Callable[[int], None]


class _Throttled:
    """Passes on some of the calls: not every one is worth a look at the clock."""

    def __init__(self, show: Callback, look_every: int) -> None:
        self._show = show
        self._look_every = look_every
        self._next_look = 0
        self._next_show = 0.0

    def __call__(self, done: int) -> None:
        if done < self._next_look:
            return
        self._next_look = done + self._look_every
        now = monotonic()
        if now >= self._next_show:
            self._next_show = now + SECONDS_BETWEEN
            self._show(done)


class _Tqdm:
    """tqdm told where it is, not how far it came."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def show(self, done: int) -> None:
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _Line:
    """One line that is written over again and again, and cleared in the end."""

    def __init__(self, total: int | None, unit: str, stream: Any) -> None:
        self._of = "" if total is None else f" of {total:,}"
        self._unit, self._stream, self._width = unit, stream, 0

    def show(self, done: int) -> None:
        text = f"{done:,}{self._of} {self._unit}"
        self._stream.write("\r" + text.ljust(self._width))
        self._stream.flush()
        self._width = len(text)

    def close(self) -> None:
        self._stream.write("\r" + " " * self._width + "\r")
        self._stream.flush()
