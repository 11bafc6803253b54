"""Printing that may fail: readers that leave, full disks, terminals that know ASCII only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import IO, TYPE_CHECKING, Any

from ..errors import PlannerError, one_line, printable

if TYPE_CHECKING:
    from ..report import Answer


def say(text: str, stream: IO[str] | None = None, end: str = "\n") -> None:
    """Print; nothing else does. Line feeds and our own colours are all in it that steers."""
    stream = sys.stdout if stream is None else stream
    stream.write("\n".join(map(_safe, text.split("\n"))) + end)
    if stream is not sys.stdout:
        stream.flush()


def tell(text: str, end: str = "\n") -> None:
    """Print on standard error; nowhere where that is closed."""
    if sys.stderr is not None:
        say(text, sys.stderr, end)


def _safe(line: str) -> str:
    if line.isprintable():
        return line
    from ..report.render import CODES

    ours = tuple(f"[{code}m" for code in ("0", *CODES.values()))
    first, *others = line.split("\033")
    safe = [printable(first)]
    for part in others:
        code = next((each for each in ours if part.startswith(each)), "")
        escape = "\033" if code else "\\x1b"
        safe.append(f"{escape}{code}{printable(part[len(code) :])}")
    return "".join(safe)


def printing(main: Callable[[], int], program: str = "") -> int:
    """``main``'s exit code once all it printed is out; 2 and one line where that cannot be."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    try:
        if sys.stdout is None:
            raise OSError(0, "standard output is closed")
        try:
            code = main()
        finally:  # also where argparse leaves after its help
            sys.stdout.flush()
    except BrokenPipeError:
        # the reader (head, less) has gone; a second error at exit would only confuse
        drop_output()
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        drop_output()
        where = "cannot print" if error.filename is None else error.filename
        with suppress(OSError):
            tell(f"{program}error: {printable(str(where))}: {error.strerror or error}")
        return 2
    except PlannerError as error:
        tell(f"{program}error: {error}")
        return 2
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        tell(f"{program}error: {fault(error)}")
        return 2
    return code


DEBUG = "VLLM_KV_PLANNER_DEBUG"
"""Set: what nobody foresaw is raised with its traceback."""


def fault(error: Exception) -> str:
    """The line for an error that is the planner's own, whatever the input was."""
    last, here = "", error.__traceback__
    while here is not None:
        code = here.tb_frame.f_code
        if __package__.partition(".")[0] in code.co_filename:
            last = f" at {os.path.basename(code.co_filename)}:{here.tb_lineno}"
        here = here.tb_next
    said = one_line(f"{type(error).__name__}{last}: {error}")
    return f"a fault of the planner, please report it ({DEBUG}=1 shows all of it): {said}"


def drop_output() -> None:
    """Send what is still to be written nowhere, so that Python does not try again at exit."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


FORMATS = ("text", "json", "markdown", "csv")


def rendered(answer: Answer, form: str) -> str:
    """The answer in one of ``FORMATS``; no final newline."""
    if form == "json":
        return answer.to_json()
    from ..report.render import to_csv, to_markdown, to_text

    if form == "csv":
        return to_csv(answer.csv_table())
    if form == "markdown":
        return "\n\n".join(map(to_markdown, answer.documents()))
    from ..report.render import wants_colour

    colour, unicode = wants_colour(sys.stdout), knows_bars(sys.stdout.encoding)
    return "\n\n".join(to_text(each, colour=colour, unicode=unicode) for each in answer.documents())


def knows_bars(encoding: str | None) -> bool:
    """Whether text in this encoding can hold a chart's characters."""
    try:
        "▁█│".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


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
