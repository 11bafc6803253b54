"""The child's side of a workload: rows of the trace in, records out, a batch at a time.

Runs in the fork that planned the engine. The parent answers every turn with one line, so that
neither side ever holds more than a batch: ``{"requests": [...], "last": bool}`` where the turn
wants rows, ``{}`` where it does not, ``{"stop": true}`` to end early.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

_BATCH_VALUES = 1 << 14  # numbers a turn may hold: some 100 KB
_BATCH_SECONDS = 1.0


class Stopped(Exception):
    """The parent wants no more."""


class Conversation:
    """One run's turns."""

    def __init__(self, replies: TextIO, send: Callable[[dict[str, Any]], None]) -> None:
        self._replies = replies
        self._send = send
        self._records: list[list[Any]] = []
        self._values = 0
        self._sent = time.monotonic()

    def trace(self) -> Iterator[Any]:
        """Rows, asked for when the run needs the next."""
        from .internals.made_up_requests import Row

        last = False
        while not last:
            reply = self._turn(wants=True)
            last = reply["last"]
            for arrival, prompt_tokens, output_tokens, prefix in reply["requests"]:
                yield Row(arrival, prompt_tokens, output_tokens, prefix)

    def put(self, record: list[Any]) -> None:
        """A record for the parent; sent with others."""
        self._records.append(record)
        self._values += len(record[2]) + len(record)
        if self._values > _BATCH_VALUES or time.monotonic() - self._sent > _BATCH_SECONDS:
            self._turn(wants=False)

    def rest(self) -> list[list[Any]]:
        """Records not sent yet."""
        return self._records

    def _turn(self, *, wants: bool) -> dict[str, Any]:
        self._send({"turn": {"records": self._records, "wants": wants, "ended": False}})
        self._records, self._values = [], 0
        line = self._replies.readline()
        self._sent = time.monotonic()
        reply: dict[str, Any] = json.loads(line) if line else {"stop": True}
        if reply.get("stop"):
            raise Stopped
        return reply


def answer_workload(
    workload: dict[str, Any],
    vllm_config: Any,
    report: Any,
    plan: dict[str, Any],
    replies: TextIO,
    send: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Send the plan, then run the trace; the last turn, which the server sends."""
    if report.refusals:
        return {"plan": plan}
    from .internals.drive import Drive
    from .internals.scheduler import build_engine

    engine = build_engine(vllm_config, report.scheduler_config)
    send({"plan": {**plan, "scheduler": engine.settings}})
    conversation = Conversation(replies, send)
    records: list[list[Any]] = []
    try:
        drive = Drive(engine, conversation.trace(), concurrency=workload["concurrency"])
        for record in drive.records():
            conversation.put(record)
        records = conversation.rest()
    except Stopped:
        pass
    return {"turn": {"records": records, "wants": False, "ended": True}}
