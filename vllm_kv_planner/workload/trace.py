"""A trace file as a stream of requests."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from ..errors import InputError
from ..files.json_file import shown
from .trace_formats import (
    CHARACTERS_PER_TOKEN,
    Reader,
    TraceFormat,
    column_named,
    conversation_reader,
    find_format,
    needed_column,
    seconds,
    token_count,
    token_counter,
)
from .trace_rows import Row, TraceInput, read_rows
from .types import Segment, TraceRequest


def hashed_prefix(row: Mapping[str, Any], prompt: int, block: int) -> tuple[Segment, ...]:
    """``hash_ids``: one id for every ``block`` tokens of the prompt, the last one for the rest.

    Ids beyond the prompt's end are left out, as vLLM's ``timed_trace`` benchmark leaves them out
    (benchmarks/datasets/datasets.py ``TimedTrace._expand_prompt``).
    """
    ids = row.get("hash_ids")
    if ids is None:
        return ()
    if not isinstance(ids, list):
        raise InputError(f"hash_ids {shown(ids)} is not a list")
    segments = []
    for at, each in zip(range(0, prompt, block), ids, strict=False):
        if type(each) is not int and type(each) is not str:
            raise InputError(f"hash_ids holds {shown(each)}, which is neither a number nor a text")
        segments.append(Segment(each, min(block, prompt - at)))
    return tuple(segments)


def named_prefix(
    row: Mapping[str, Any], prompt: int, tokens: str | None, name: str | None
) -> tuple[Segment, ...]:
    """``prefix_tokens`` tokens that all requests with the same ``prefix_id`` begin with."""
    if tokens is None or row.get(tokens) in (None, ""):
        return ()
    length = token_count(row, tokens)
    if length > prompt:
        raise InputError(f"{tokens} {length:,} is more than the whole prompt, {prompt:,}")
    which = None if name is None else row.get(name)
    which = "" if which is None else which
    if type(which) is not int and type(which) is not str:
        raise InputError(f"{name} {shown(which)} is neither a number nor a text")
    return (Segment(which, length),) if length else ()


REORDERED = 10_000
"""Requests looked ahead for earlier ones: logs are written when requests end, not as they come."""


class TraceOptions(NamedTuple):
    """How a trace is read; as the flags ``trace_…`` and ``all_lengths`` of ``RequestSource``.

    ``timed``: whether the times are wanted; they are not looked at otherwise.
    """

    form: str | None = None
    tokenizer: str | None = None
    every_length: bool = False
    model: str | None = None
    timed: bool = True


class Trace:
    """An open trace; iterate over it once.

    Attributes:
        clock: What its times count: ``seconds``, ``steps`` (seconds where a step time is given) or
            ``none``.
        left_out: Rows that are no request, by reason; complete when the iteration has ended.
    """

    def __init__(self, path: str, options: TraceOptions = TraceOptions()) -> None:  # noqa: B008
        self._file = TraceInput(path)
        self.where = self._file.where
        self.left_out: dict[str, int] = {}
        self.notes: list[str] = []
        try:
            self._begin(options)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; running to the end does it too."""
        self._file.close()

    def _begin(self, options: TraceOptions) -> None:
        """Look at the first row: which format is it, and which columns are there?"""
        rows = read_rows(self._file)
        first = next(rows, None)
        if first is None:
            raise InputError(f"{self.where}: no requests in it")
        self._rows: Iterator[Row] = chain((first,), rows)
        self.form: TraceFormat = find_format(first[1], options.form)
        time = column_named(first[1], self.form.time)
        engines = column_named(first[1], self.form.engine_clock)
        self.clock = "none" if time is None else "steps" if time == engines else "seconds"
        self._timed = options.timed and time is not None
        try:
            self._read = self._reader(first[1], options, time if options.timed else None)
        except InputError as error:
            raise InputError(f"{self.where}: {error}") from None

    def __iter__(self) -> Iterator[TraceRequest]:
        """The requests; the first arrives at 0, and none before its predecessor."""
        found = self._requests()
        return from_zero(in_order(found, self.where)) if self._timed else found

    def _requests(self) -> Iterator[TraceRequest]:
        read, left_out = self._read, self.left_out
        try:
            for line, row in self._rows:
                try:
                    request = read(row)
                except InputError as error:
                    raise InputError(f"{self.where}, line {line:,}: {error}") from None
                if isinstance(request, str):
                    left_out[request] = left_out.get(request, 0) + 1
                else:
                    yield request
        finally:
            self.close()

    def _reader(self, row: Mapping[str, Any], options: TraceOptions, time: str | None) -> Reader:
        if self.form.name == "sharegpt":
            count = token_counter(options.tokenizer)
            if options.tokenizer is None:
                self.notes.append(
                    f"tokens are guessed, one for {CHARACTERS_PER_TOKEN} characters: "
                    "--tokenizer MODEL counts them"
                )
            return conversation_reader(count, every_length=options.every_length)
        read, model = column_reader(self.form, row, time), options.model
        if model is None:
            return read
        column = needed_column(row, ("model",), "the model")
        return lambda row: read(row) if row.get(column) == model else "requests to other models"


def column_reader(form: TraceFormat, row: Mapping[str, Any], time: str | None) -> Reader:
    """The reader of rows that look like ``row``."""
    prompt_column = needed_column(row, form.prompt, "the prompt's length")
    output_column = needed_column(row, form.output, "the answer's length")
    unit = 1.0
    if time is not None:
        unit = next((size for name, size in form.units if column_named({time: 0}, (name,))), 1.0)
    prefix_tokens = column_named(row, ("prefix_tokens",))
    prefix_id = column_named(row, ("prefix_id",))
    block = form.hash_block

    def read(row: Mapping[str, Any]) -> TraceRequest | str:
        prompt, output = token_count(row, prompt_column), token_count(row, output_column)
        if not prompt:
            return "requests without a prompt"
        if not output:
            return "requests without an answer (failed ones)"
        now = 0.0 if time is None else seconds(row, time, unit)
        if block:
            return TraceRequest(now, prompt, output, hashed_prefix(row, prompt, block))
        prefix = named_prefix(row, prompt, prefix_tokens, prefix_id)
        return TraceRequest(now, prompt, output, prefix)

    return read


def in_order(requests: Iterable[TraceRequest], where: str) -> Iterator[TraceRequest]:
    """The requests by arrival time; one more than ``REORDERED`` requests late is refused."""
    waiting: list[tuple[float, int, TraceRequest]] = []
    last = 0.0
    for number, request in enumerate(requests):
        if request.arrival < last:
            raise InputError(
                f"{where}: request {number + 1:,} arrives before others that are written more than "
                f"{REORDERED:,} requests earlier: sort the trace by its times"
            )
        if len(waiting) < REORDERED:
            heapq.heappush(waiting, (request.arrival, number, request))
            continue
        earliest = heapq.heappushpop(waiting, (request.arrival, number, request))[2]
        last = earliest.arrival
        yield earliest
    yield from (request for _, _, request in sorted(waiting))


def from_zero(requests: Iterable[TraceRequest]) -> Iterator[TraceRequest]:
    """The requests, times counted from the first arrival on."""
    start: float | None = None
    for request in requests:
        start = request.arrival if start is None else start
        yield request._replace(arrival=request.arrival - start)
