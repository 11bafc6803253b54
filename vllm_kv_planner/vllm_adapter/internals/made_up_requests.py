"""vLLM's ``Request`` objects for a trace that has lengths and no text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .names import name


class Row(NamedTuple):
    """A trace request as it comes over the pipe; arrival in engine steps."""

    arrival: float
    prompt_tokens: int
    output_tokens: int
    prefix: list[tuple[int | str, int]]


Numbered = tuple[int, Row]


class MadeUpRequests:
    """Requests in the order of the trace.

    Token j of a shared segment is a number made from the segment's id and j; a request's own
    tokens, prompt and output, are one number made from its own. So two requests have the same
    tokens as far as they have the same segments, and no further.

    Attributes:
        upcoming: The next row; None at the end.
        timed: Whether arrivals count.
    """

    def __init__(
        self,
        trace: Iterator[Row],
        block_hasher: Callable[[Any], list[Any]] | None,
        max_model_len: int,
        *,
        timed: bool,
    ) -> None:
        self._trace = trace
        self._block_hasher = block_hasher
        self._max_model_len = max_model_len
        self.timed = timed
        self._request = name("Request")
        self._sampling = name("SamplingParams")
        self._number = 0
        self.upcoming: Row | None = next(trace, None)

    def take(self) -> Numbered | None:
        """The upcoming row; None where its prompt is too long for the engine."""
        row, number = self.upcoming, self._number
        assert row is not None
        self._number += 1
        self.upcoming = next(self._trace, None)
        # vLLM 0.33 v1/engine/input_processor.py: a prompt must leave room for one token.
        return None if row.prompt_tokens >= self._max_model_len else (number, row)

    def make(self, number: int, row: Row) -> Any:
        """vLLM's object for a row."""
        return self._request(
            request_id=f"{number:012d}",  # by priority, ties are broken by comparing ids
            prompt_token_ids=self._tokens(number, row),
            sampling_params=self._sampling(
                max_tokens=row.output_tokens, ignore_eos=True, detokenize=False
            ),
            pooling_params=None,
            arrival_time=row.arrival if self.timed else 0.0,
            block_hasher=self._block_hasher,
        )

    def own_token(self, number: int) -> int:
        """What a request's own tokens are."""
        return 2 * number + 1

    def _tokens(self, number: int, row: Row) -> list[int]:
        tokens: list[int] = []
        for segment in row.prefix:
            tokens += segment_tokens(*segment)
        return tokens + [self.own_token(number)] * (row.prompt_tokens - len(tokens))


def segment_tokens(segment: int | str, tokens: int) -> range:
    """Even numbers from one of 61 bits on, which is the same wherever the id is."""
    digest = hashlib.blake2b(repr(segment).encode(), digest_size=8).digest()
    first = (int.from_bytes(digest, "little") >> 3) & ~1
    return range(first, first + 2 * tokens, 2)
