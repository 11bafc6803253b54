"""A worker process: plans the chunks that come through its connection until that is closed.

Started as a fresh interpreter rather than by ``fork`` or ``multiprocessing``'s spawn: a caller may
have threads or a CUDA context, which no fork survives, and may have no ``__main__`` guard, which
spawn needs.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing import connection as connections
from typing import Any

from .work import Planning

READY = "ready"


def connection_of(file_descriptor: int) -> Any:
    """This end of the pipe; on Windows pipes have a class, and a handle, of their own."""
    kind: Any = getattr(connections, "PipeConnection", connections.Connection)
    return kind(file_descriptor)


def main(file_descriptor: int) -> None:
    """Receive the common work once, then a chunk and send its answer, again and again."""
    # leave the usual way, so that a vLLM started here ends too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    connection = connection_of(file_descriptor)
    try:
        planning = Planning(connection.recv())
        connection.send(READY)
        while True:
            connection.send(planning.run(connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # whoever asked is gone, or done
