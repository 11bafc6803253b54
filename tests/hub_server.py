"""A small Hugging Face Hub on 127.0.0.1 for tests: real HTTP, real sockets, nothing mocked."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BRANCH_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
TOKEN = "hf_test_token_of_no_worth"


class Hub(ThreadingHTTPServer):
    """Serves ``/ORG/NAME/resolve/REVISION/FILE`` from ``self.files``; keeps what it was asked.

    Names that begin with a special word behave as that word says: ``gated/…`` wants the token,
    ``slow/…`` sends a header and then nothing for long, ``huge/…`` never stops sending,
    ``drip/…`` waits 0.05 s before each answer,
    ``renamed/…`` redirects to the same name under ``org/``, ``away/…`` to ``self.elsewhere``.
    """

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server_address[1]}"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.asked: list[tuple[str, str | None]] = []  # path, Authorization
        self.ranges: list[str] = []  # asked for, of files that are there
        self.gated: set[str] = set()  # repositories that want the token, besides those
        self.not_changed = 0  # answers without a body, to whoever had the file
        self.heeds_ranges = True
        self.gives_reasons = True  # a mirror may say 404 and no more
        self.elsewhere = ""
        self.closing = threading.Event()

    def add(
        self, repo: str, content: Any, file: str = "config.json", revision: str = "main"
    ) -> None:
        """Publish ``content`` (bytes as they are, anything else as JSON)."""
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        for name in (revision, COMMIT if revision == "main" else BRANCH_COMMIT):
            self.files[repo, name, file] = raw


@contextmanager
def running_hub(tls: ssl.SSLContext | None = None) -> Iterator[Hub]:
    hub = Hub(tls)
    thread = threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        hub.shutdown()
        hub.server_close()
        thread.join()


class RawServer:
    """Answers every request with the pieces given, whatever they are, one every ``pause`` s.

    A function makes them of the request's bytes.

    Attributes:
        url: Where it listens.
        sent: Bytes that clients let it send, over all connections.
        pieces: How often it sent some.
        connections: Accepted.
        requests: The bytes that began each.
    """

    def __init__(
        self, pieces: Iterable[bytes] | Callable[[bytes], Iterable[bytes]], pause: float
    ) -> None:
        self.sent = self.pieces = self.connections = 0
        self.requests: list[bytes] = []
        self._pieces, self._pause = pieces, pause
        self._closing = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def close(self) -> None:
        """Ends the thread that serves."""
        self._closing.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            self.connections += 1
            with connection:
                connection.settimeout(30)
                with suppress(OSError):  # the client had enough
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        request = connection.recv(65536)
        self.requests.append(request)
        for piece in self._pieces(request) if callable(self._pieces) else self._pieces:
            if self._closing.wait(self._pause) if self._pause else self._closing.is_set():
                return
            connection.sendall(piece)
            self.sent += len(piece)
            self.pieces += 1


@contextmanager
def running_raw_server(
    pieces: Iterable[bytes] | Callable[[bytes], Iterable[bytes]], *, pause: float = 0
) -> Iterator[RawServer]:
    server = RawServer(pieces, pause)
    server.thread.start()
    try:
        yield server
    finally:
        server.close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append((path, self.headers.get("Authorization")))
        repo, _, rest = path[1:].partition("/resolve/")
        revision, _, file = rest.partition("/")
        org, _, name = repo.partition("/")
        if org == "renamed":
            self._redirect(f"/org/{name}/resolve/{rest}")
        elif org == "away":
            self._redirect(f"{self.server.elsewhere}/org/{name}/resolve/{rest}")
        elif org == "loop":
            self._redirect(self.path)
        elif org == "broken":
            self._answer(500, b"")
        elif org == "slow":
            self._slow()
        elif org == "huge":
            self._huge()
        elif org == "drip":
            self.server.closing.wait(0.05)
            self._file(repo, unquote(revision), file)
        elif (org == "gated" or repo in self.server.gated) and self.headers.get(
            "Authorization"
        ) != f"Bearer {TOKEN}":
            self._answer(
                401, b"Access to this model is restricted", **{"X-Error-Code": "GatedRepo"}
            )
        elif org == "refused":
            self._answer(403, b"", **{"X-Error-Code": "GatedRepo"})
        else:
            self._file(repo, unquote(revision), file)

    def _file(self, repo: str, revision: str, file: str) -> None:
        known = [key for key in self.server.files if key[0] == repo]
        raw = self.server.files.get((repo, revision, file))
        if raw is not None:
            commit = COMMIT if revision in ("main", COMMIT) else BRANCH_COMMIT
            self._whole_or_part(raw, commit)
        elif not self.server.gives_reasons:
            self._answer(404, b"not found")
        elif not known:
            self._answer(401, b"", **{"X-Error-Code": "RepoNotFound"})  # as the real one does
        elif not any(key[1] == revision for key in known):
            self._answer(404, b"", **{"X-Error-Code": "RevisionNotFound"})
        else:
            self._answer(404, b"", **{"X-Error-Code": "EntryNotFound"})

    def _whole_or_part(self, raw: bytes, commit: str) -> None:
        asked = self.headers.get("Range")
        etag = '"' + hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest() + '"'
        if self.headers.get("If-None-Match") == etag:
            self.server.not_changed += 1
            self._answer(304, b"", ETag=etag)
            return
        if asked is None or not self.server.heeds_ranges:
            self._answer(200, raw, **{"X-Repo-Commit": commit, "ETag": etag})
            return
        self.server.ranges.append(asked)
        start, _, end = asked.removeprefix("bytes=").partition("-")
        part = raw[int(start) : int(end) + 1]
        self._answer(206 if part else 416, part, **{"X-Repo-Commit": commit})

    def _answer(self, status: int, raw: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _redirect(self, location: str) -> None:
        self._answer(307, b"", Location=location)

    def _slow(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        for _ in range(600):  # a minute, unless the test ends before
            if self.server.closing.wait(0.1):
                return

    def _huge(self) -> None:
        self.send_response(200)
        self.end_headers()
        deadline = time.monotonic() + 30
        try:
            while time.monotonic() < deadline and not self.server.closing.is_set():
                self.wfile.write(b" " * 1_000_000)
        except OSError:  # the client had enough
            pass

    def log_message(self, format: str, *args: Any) -> None:
        pass
