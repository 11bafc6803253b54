"""Behaviours of a hub that nobody would wish for, seeded: what ``fuzz_inputs.py`` asks.

Each is a good hub's conversation with some parts replaced: interim responses, headers without end,
lengths and encodings that do not hold, chunks with extensions and trailers, redirects round and
round, reasons withheld. Time is not waited for: every read of the client moves its clock.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

from vllm_kv_planner.config import exchange, online

MOST_READS = 5_000
"""A read takes 10 ms or brings many bytes, and all files of a model have 60 s."""
MOST_CONNECTIONS = 60
"""Ten files at most, each after five redirects."""
MOST_BYTES = 120_000_000
"""Ten files, each refused at 10 MB, in chunks at twice that; side files never come so far."""
ENDLESS = 1 << 30
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_aMarkerThatMustNotAppear"

Answer = Callable[[bytes], Iterable[bytes]]


def behaviour(files: dict[str, bytes], chance: random.Random) -> Answer:
    """What the hub does, by the request's bytes: mostly the same for every file, good or bad."""
    always = Random(chance, 0.4)
    of_file = {name: Random(chance, 0.8 if name == "config.json" else 0.4) for name in files}

    def answer(request: bytes) -> Iterable[bytes]:
        line = request.split(b"\r\n", 1)[0].split(b" ")
        path = line[1].decode("latin-1") if len(line) > 1 else ""
        name = path.rpartition("/")[2].partition("?")[0]
        port = request.partition(b"Host: ")[2].partition(b"\r\n")[0].rpartition(b":")[2]
        places = {"PORT": port.decode("latin-1"), "PATH": path}
        return of_file.get(name, always).pieces(places, files.get(name))

    return answer


class Random:
    """One way to answer, chosen once, so that a client that asks again gets the same."""

    def __init__(self, chance: random.Random, share_good: float) -> None:
        pick = chance.choice
        good = chance.random() < share_good
        self.before = b"" if good else pick(_BEFORE)
        self.before_times = pick((1, 1, 3, 120, ENDLESS)) if self.before else 0
        self.status = "200 OK" if good else pick(_STATUSES)
        self.headers = b"" if good else pick(_HEADERS)
        self.header_times = pick((1, 1, 2, 90, 120, ENDLESS)) if self.headers else 0
        self.location = pick(_LOCATIONS)
        self.framing = pick(("length", "chunked", "close")) if good else pick(_FRAMINGS)
        self.body = None if good else pick(_BODIES)
        self.chunk = pick((1, 7, 4096))

    def pieces(self, places: dict[str, str], content: bytes | None) -> Iterator[bytes]:
        """The bytes sent, in pieces."""
        yield from _repeated(self.before, self.before_times)
        missing = content is None and self.body is None
        status = "404 Not Found" if missing and self.status == "200 OK" else self.status
        yield f"HTTP/1.1 {status}\r\nX-Repo-Commit: {COMMIT}\r\n".encode("latin-1")
        if status.startswith("3"):
            where = self.location
            for name, place in places.items():
                where = where.replace(name, place)
            yield f"Location: {where}\r\n".encode("latin-1", "replace")
        yield from _repeated(self.headers, self.header_times)
        body = self.body if self.body is not None else content or b"nothing here"
        yield from _FRAMES[self.framing](body, self.chunk)


def _repeated(piece: bytes, times: int) -> Iterator[bytes]:
    """``piece`` so often; in larger pieces where that is without end."""
    if times < ENDLESS:
        yield piece * times
        return
    many = piece * max(1, 65536 // len(piece))
    for _ in range(MOST_BYTES // len(many) + 1):
        yield many


def _length(body: bytes, _: int) -> Iterator[bytes]:
    yield b"Content-Length: %d\r\n\r\n" % len(body) + body


def _wrong(said: bytes) -> Callable[[bytes, int], Iterator[bytes]]:
    def frame(body: bytes, _: int) -> Iterator[bytes]:
        yield b"Content-Length: " + said + b"\r\n\r\n" + body

    return frame


def _chunked(extension: bytes, end: bytes) -> Callable[[bytes, int], Iterator[bytes]]:
    def frame(body: bytes, size: int) -> Iterator[bytes]:
        yield b"Transfer-Encoding: chunked\r\n\r\n"
        parts = (body[i : i + size] for i in range(0, len(body), size))
        for part in parts:
            yield b"%x%s\r\n%s\r\n" % (len(part), extension, part)
        yield b"0\r\n"
        yield from _repeated(end, 1 if end == b"\r\n" else ENDLESS)

    return frame


def _closed(body: bytes, _: int) -> Iterator[bytes]:
    yield b"Connection: close\r\n\r\n" + body


def _without_end(start: bytes, piece: bytes) -> Callable[[bytes, int], Iterator[bytes]]:
    def frame(body: bytes, _: int) -> Iterator[bytes]:
        yield start + body
        yield from _repeated(piece, ENDLESS)

    return frame


_FRAMES: dict[str, Callable[[bytes, int], Iterator[bytes]]] = {
    "length": _length,
    "chunked": _chunked(b"", b"\r\n"),
    "close": _closed,
    "too long": _wrong(b"999999"),
    "too short": _wrong(b"3"),
    "negative": _wrong(b"-1"),
    "no number": _wrong(b"0x10"),
    "many digits": _wrong(b"9" * 5000),
    "two lengths": _wrong(b"5\r\nContent-Length: 7"),
    "length and chunks": _wrong(b"5\r\nTransfer-Encoding: chunked"),
    "extensions": _chunked(b";a=" + b"x" * 4000, b"\r\n"),
    "long extensions": _chunked(b";a=" + b"x" * 70_000, b"\r\n"),
    "trailers": _chunked(b"", b"X-Trailer: x\r\n"),
    "a chunk of minus one": _without_end(b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", b"x"),
    "a chunk too large": _without_end(b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n", b"x"),
    "no chunk": _without_end(b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"x"),
    "empty chunks": _without_end(b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n"),
    "gzip": _without_end(b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08", b"\0"),
    "no end": _without_end(b"\r\n", b" "),
    "brackets": _without_end(b"\r\n", b"["),
    "nothing": lambda _, __: iter(()),
    "deflate": lambda body, _: iter((b"Content-Encoding: deflate\r\n\r\n" + body,)),
}
_FRAMINGS = tuple(_FRAMES)
_BEFORE = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\nX-Header: x\r\n",
    *(b"\r\n", b"x", b"\0", b"HTTP/0.9 ", b"SSH-2.0-x\r\n", b"\x16\x03\x01\x02"),
)
_STATUSES = (
    *("200 OK", "200 OK", "200 OK", "206 Partial Content", "204 No Content", "304 Not Modified"),
    *("301 Moved", "302 Found", "307 Temporary", "308 Permanent", "300 Choices", "399 x"),
    *("400 Bad", "401 Unauthorized", "403 Forbidden", "404 Not Found", "410 Gone", "416 Range"),
    *("429 Slow down", "500 Oops", "503 \x1b[31mred", "999 x", "0 x", "-1 x", "two", "200", "20O"),
)
_HEADERS = (
    b"X-Error-Code: EntryNotFound\r\n",
    b"X-Error-Code: RepoNotFound\r\n",
    b"X-Error-Code: RevisionNotFound\r\n",
    b"X-Error-Code: GatedRepo\r\n",
    b"X-Error-Code: \x1b]0;t\x07\r\n",
    b"X-Repo-Commit: ../../../x\r\n",
    b'ETag: "\xff\xfe"\r\n',
    b"X-Header: x\r\n",
    b"X-Header: " + b"x" * 60_000 + b"\r\n",
    b"X-Header: " + b"x" * 70_000 + b"\r\n",
    *(b"no colon\r\n", b": x\r\n", b" folded\r\n", b"X: \0\r\n", b"X: a\n", b"\xff: \xff\r\n"),
    b"Set-Cookie: a=b\r\n",
    b"Content-Range: bytes 5-1/0\r\n",
)
_LOCATIONS = (
    *("PATH", "PATH", "/x/PATH", "PATH?a=1", "//127.0.0.1:9/PATH", "http://localhost:PORTPATH"),
    *("file:///etc/hostname", "ftp://127.0.0.1/x", "data:,{}", "javascript:x", "", "?", "#x"),
    *("http://", "http://[", "http://[::1", "http://127.0.0.1:x/", "http://127.0.0.1:99999/"),
    *("http://user:pass@127.0.0.1:9/", "\x1b[31m", "/\u20ac", "/a b", "x" * 60_000, "https://x@y"),
    "http://a-name.invalid/",
)
_BODIES = (
    None,
    None,
    *(b"", b"{}", b"[]", b"{", b"null", b"\xff\xfe{", b"<html>404</html>", b"1" * 5000),
    b'{"architectures": ["LlamaForCausalLM"]}',
    b"[" * 5000,
    b'{"a": ' + b"1" * 5000 + b"}",
    b'{"a": NaN, "architectures": ["\\u001b[31m"], "model_type": "llama"}',
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    json.dumps({"weight_map": {f"w{i}": f"{i}.safetensors" for i in range(2000)}}).encode(),
)


class Clock:
    """Time as the client sees it: each read moves it, and none takes any."""

    def __init__(self, step: int, pause: float) -> None:
        self.step, self.pause = step, pause
        self.now = time.monotonic()
        self.reads = 0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@contextlib.contextmanager
def slow_reads(chance: random.Random) -> Iterator[Clock]:
    """Every read of the hub's answers brings few bytes, or many, and takes its time, or none."""
    step, pause = chance.choice(((1, 0.02), (7, 0.02), (1000, 0.5), (65536, 4.0), (65536, 0.005)))
    clock = Clock(step, pause)
    read = exchange.Exchange.read

    def slowly(self: Any, connection: Any, raw: Any, buffer: Any) -> int | None:
        clock.now += clock.pause
        clock.reads += 1
        return read(self, connection, raw, memoryview(buffer)[: clock.step])

    online.forget()
    with (
        mock.patch.object(exchange.Exchange, "read", slowly),
        mock.patch.object(exchange, "time", clock),
    ):
        yield clock
    online.forget()


def too_much(clock: Clock, server: Any) -> str | None:
    """What the client did more of than any answer is worth; None: nothing."""
    for count, most, what in (
        (clock.reads, MOST_READS, "reads"),
        (server.connections, MOST_CONNECTIONS, "connections"),
        (server.sent, MOST_BYTES, "bytes taken"),
    ):
        if count > most:
            return f"{count:,} {what}, at most {most:,}"
    port = server.url.rpartition(":")[2].encode()
    for request in server.requests:
        if TOKEN.encode() in request and b"Host: 127.0.0.1:" + port not in request:
            return f"the token went to another host: {request[:200]!r}"
    return None
