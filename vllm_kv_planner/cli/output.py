"""Printing that may fail: readers that leave, full disks, terminals that know ASCII only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from ..errors import PlannerError, printable


def say(text: str, stream: IO[str] | None = None, end: str = "\n") -> None:
    """Print; nothing else does. Line feeds and our own colours are all in it that steers.

    Args:
        text: What to print; texts of others may be anywhere in it.
        stream: Where; None: standard output.
        end: As ``print`` takes it.
    """
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
    from ..report.terminal import CODES

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
    return code


def drop_output() -> None:
    """Send what is still to be written nowhere, so that Python does not try again at exit."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
