"""One HTTP exchange with a server nobody vouches for, bounded in time and in bytes.

Everything that is waited for or read goes through one ``Exchange``: names looked up, addresses
tried, TLS, status lines, headers, interim responses, redirects, chunks, trailers. Python's own
time-outs bound each wait alone, and its limits each line.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import socket
import threading
import time
import urllib.request
from typing import Any

# Seconds until connected, its name looked up; without a byte; of one exchange; of all the files
# of a model.
CONNECT_SECONDS = 3.0
WAIT_SECONDS = 5.0
EXCHANGE_SECONDS = 20.0
MODEL_SECONDS = 60.0
# Bytes beside the body's: headers of the answer, of redirects, of a proxy.
_OVERHEAD_BYTES = 1_000_000
_PIECE_BYTES = 64 * 1024


class Deadline:
    """A moment by which all must be there, and what to say when it passes."""

    def __init__(self, seconds: float, what: str) -> None:
        self._end = time.monotonic() + seconds
        self._said = f"{what} took more than {seconds:g} s"

    def left(self) -> float:
        """Seconds left. Raises TimeoutError where there are none."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError(self._said)
        return seconds


def model_deadline() -> Deadline:
    """For all the files of one model."""
    return Deadline(MODEL_SECONDS, "the model's files")


class Exchange:
    """What one exchange may still take, and what it has open: it closes all of it at its end.

    Args:
        body_bytes: At most wanted; in chunks it may come twice as long.
        deadline: Of whatever it is a part of, beside its own.
    """

    def __init__(self, body_bytes: int, deadline: Deadline | None = None) -> None:
        own = Deadline(EXCHANGE_SECONDS, "it")
        self._deadlines: tuple[Deadline, ...] = (own,) if deadline is None else (own, deadline)
        self._bytes_left = 2 * body_bytes + _OVERHEAD_BYTES
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def open(
        self, request: urllib.request.Request, redirects: urllib.request.HTTPRedirectHandler
    ) -> Any:
        """The answer to ``request``. Over http and https, and nothing else urllib knows."""
        director = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            _Http(self),
            _Https(self),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            redirects,
        ):
            director.add_handler(handler)
        return director.open(request, timeout=self.wait())

    def wait(self, *also: Deadline) -> float:
        """Seconds the next wait may take. Raises TimeoutError where there are none."""
        left: list[float] = [each.left() for each in self._deadlines + also]
        return min([WAIT_SECONDS, *left])

    def read(self, connection: socket.socket, raw: io.RawIOBase, buffer: Any) -> int | None:
        """One read from the wire. Raises OSError where it is too slow, or there is too much."""
        connection.settimeout(self.wait())
        try:
            count: int | None = raw.readinto(buffer)
        except TimeoutError:
            self.wait()
            raise TimeoutError(f"nothing came for {WAIT_SECONDS:g} s") from None
        self._bytes_left -= count or 0
        if self._bytes_left < 0:
            raise OSError("its answer has no end")
        return count

    def closes(self, opened: Any) -> None:
        """Takes note of what is to be closed."""
        self._opened.callback(opened.close)

    def connect(
        self, address: tuple[str, int], timeout: object = None, source_address: object = None
    ) -> socket.socket:
        """A connected socket: as ``socket.create_connection``, by this exchange's deadlines."""
        problem: OSError = OSError("no address")
        until = Deadline(CONNECT_SECONDS, "connecting")
        for family, kind, protocol, _, place in self._look_up(*address, until):
            connection = socket.socket(family, kind, protocol)
            self.closes(connection)
            try:
                connection.settimeout(self.wait(until))
                connection.connect(place)
                connection.settimeout(self.wait())  # for TLS: the whole handshake
            except OSError as error:
                connection.close()
                problem = error
            else:
                return connection
        self.wait(until)
        raise problem

    def _look_up(self, host: str, port: int, until: Deadline) -> list[Any]:
        """Addresses of ``host``. A look-up cannot be given a time-out, so it gets a thread."""
        found: list[Any] = []

        def ask() -> None:
            try:
                found.append(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                found.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(self.wait(until))
        if not found:
            raise TimeoutError("looking up its name timed out")
        if isinstance(found[0], OSError):
            raise found[0]
        if isinstance(found[0], UnicodeError):
            raise OSError("not a host name")
        addresses: list[Any] = found[0]
        return addresses


class _Bounded(io.RawIOBase):
    """What a socket sends, each read bounded by the exchange."""

    def __init__(self, exchange: Exchange, connection: socket.socket, raw: io.RawIOBase) -> None:
        self._exchange, self._connection, self._raw = exchange, connection, raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        return self._exchange.read(self._connection, self._raw, buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, exchange: Exchange, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp = io.BufferedReader(_Bounded(exchange, sock, self.fp.detach()))
        exchange.closes(self)

    def read(self, amt: int | None = None) -> bytes:
        """As much as came: Python's own makes room for all that a length or a chunk promises."""
        left, parts = float("inf") if amt is None else amt, [b""]
        while left > 0 and (part := self.read1(int(min(left, _PIECE_BYTES)))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def _bounded(kind: type[http.client.HTTPConnection], exchange: Exchange) -> Any:
    """Makes connections of ``kind`` that connect and read through ``exchange``."""

    def connection(host: str, **options: Any) -> Any:
        made: Any = kind(host, **options)
        made.response_class = functools.partial(_Response, exchange=exchange)
        made._create_connection = exchange.connect
        return made

    return connection


class _Http(urllib.request.HTTPHandler):
    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self.exchange = exchange

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_bounded(http.client.HTTPConnection, self.exchange), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self.exchange = exchange

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_bounded(http.client.HTTPSConnection, self.exchange), req)
