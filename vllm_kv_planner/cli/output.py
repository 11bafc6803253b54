"""Printing that may fail: readers that leave, full disks, terminals that know ASCII only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress


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
            print(f"{program}error: {where}: {error.strerror or error}", file=sys.stderr)
        return 2
    return code


def drop_output() -> None:
    """Send what is still to be written nowhere, so that Python does not try again at exit."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
