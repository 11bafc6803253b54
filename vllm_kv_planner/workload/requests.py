"""A stream of requests, made from distributions or read from a trace, given its shape.

Everything here is lazy: one request is in memory at a time. The random numbers of lengths,
arrivals and prefixes come from streams of their own, so that changing one leaves the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import TYPE_CHECKING

from ..errors import InputError
from ..records import dataclass
from .types import Segment, TraceRequest

if TYPE_CHECKING:
    from random import Random

    from .arrivals import Arrivals
    from .lengths import Lengths

MOST_REQUESTS = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class SharedPrefix:
    """What prompts begin with, such as a system prompt.

    It comes on top of the prompt's own tokens, as ``--random-prefix-len`` of vLLM 0.33's
    ``bench serve`` does (benchmarks/datasets/datasets.py ``generate_token_sequence``).

    Attributes:
        tokens: Its length.
        count: How many different ones there are; each request picks one of them.
    """

    tokens: int
    count: int = 1


def generated_requests(
    prompt: Lengths, output: Lengths, count: int, *, seed: int = 0
) -> Iterator[TraceRequest]:
    """``count`` requests with lengths drawn, all of them there from the start.

    Raises:
        InputError: A count that cannot be.
    """
    if not 1 <= count <= MOST_REQUESTS:
        raise InputError(f"--requests {count}: 1 to {MOST_REQUESTS:,}")
    prompts, outputs = _stream(seed, "prompt"), _stream(seed, "output")
    return (
        TraceRequest(0.0, prompt.draw(prompts), output.draw(outputs)) for _ in repeat(None, count)
    )


def with_arrivals(
    requests: Iterable[TraceRequest], arrivals: Arrivals, *, seed: int = 0
) -> Iterator[TraceRequest]:
    """The requests, arriving as ``arrivals`` says, whatever the trace said."""
    times = arrivals.times(_stream(seed, "arrivals"))
    return (each._replace(arrival=now) for each, now in zip(requests, times, strict=False))


def with_pace(requests: Iterable[TraceRequest], scale: float) -> Iterator[TraceRequest]:
    """The requests ``scale`` times as fast: 2 halves the time between them.

    Raises:
        InputError: A factor that cannot be.
    """
    if not (1e-6 <= scale <= 1e6):
        raise InputError(f"--scale {scale}: a factor from 1e-6 to 1e6; 2 is twice as fast")
    return (each._replace(arrival=each.arrival / scale) for each in requests)


def with_shared_prefix(
    requests: Iterable[TraceRequest], shared: SharedPrefix, *, seed: int = 0
) -> Iterator[TraceRequest]:
    """The requests, each behind one of the shared prefixes.

    Raises:
        InputError: A prefix that cannot be.
    """
    if not 0 <= shared.tokens <= 1_000_000_000:
        raise InputError(f"--shared-prefix {shared.tokens}: 0 to 1,000,000,000 tokens")
    if not 1 <= shared.count <= 1_000_000:
        raise InputError(f"--prefixes {shared.count}: 1 to 1,000,000 different ones")
    if shared.tokens == 0:
        return iter(requests)
    return _prefixed(requests, shared, _stream(seed, "prefix"))


def _prefixed(
    requests: Iterable[TraceRequest], shared: SharedPrefix, random: Random
) -> Iterator[TraceRequest]:
    for each in requests:
        number = random.randrange(shared.count) if shared.count > 1 else 0
        yield each._replace(
            prompt_tokens=each.prompt_tokens + shared.tokens,
            prefix=(Segment(f"shared-prefix-{number}", shared.tokens), *each.prefix),
        )


def _stream(seed: int, name: str) -> Random:
    from random import Random

    return Random(f"{seed}:{name}")
