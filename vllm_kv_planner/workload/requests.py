"""A stream of requests: drawn or read from a trace, with their arrivals and shared prefixes.

Everything here is lazy: one request is in memory at a time. The random numbers of lengths,
arrivals and prefixes come from streams of their own, so that changing one leaves the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import count, repeat
from typing import TYPE_CHECKING

from ..errors import InputError
from ..records import dataclass
from .types import Segment, TraceRequest

if TYPE_CHECKING:
    from random import Random

    from .lengths import Lengths


VALID = "poisson, constant, burst:N (N at once) or all"
MOST_IN_BURST = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """An open loop: requests come whether or not earlier ones have ended.

    Attributes:
        kind: ``poisson``, ``constant``, ``burst`` or ``all``.
        rate: Requests a step, or a second where a step time is given; None for ``all``.
        burstiness: Shape of the gamma distribution of the gaps between requests: 1 is a Poisson
            process, less comes in clusters, more is steadier (``--burstiness`` of vLLM 0.33's
            ``bench serve``, benchmarks/serve.py ``get_request``).
        burst: Requests of one burst.
    """

    kind: str
    rate: float | None = None
    burstiness: float = 1.0
    burst: int = 1

    def times(self, random: Random) -> Iterator[float]:
        """Arrival times without end, never decreasing; the first request comes at 0."""
        if self.kind == "all" or self.rate is None:
            return repeat(0.0)
        if self.kind == "poisson":
            return _gamma_gaps(random, self.burstiness, 1 / (self.rate * self.burstiness))
        return _bursts(self.burst, self.rate)

    def described(self, unit: str) -> str:
        """``Poisson, 2 a step``."""
        if self.kind == "all" or self.rate is None:
            return "all at once"
        pace = f"{self.rate:,g} a {unit}"
        if self.kind == "poisson":
            gamma = f"gaps of a gamma distribution of shape {self.burstiness:g}"
            return f"{'Poisson' if self.burstiness == 1 else gamma}, {pace}"
        return f"evenly, {pace}" if self.burst == 1 else f"in bursts of {self.burst:,}, {pace}"


def parse_arrivals(
    text: str | None, rate: float | None = None, burstiness: float | None = None
) -> Arrivals:
    """The arrivals of the flags ``--arrivals``, ``--rate`` and ``--burstiness``."""
    kind, colon, number = (text or ("all" if rate is None else "poisson")).partition(":")
    burst = 1
    if kind == "burst":
        burst = int(number) if number.isdecimal() and len(number) < 12 else 0
        if not 1 <= burst <= MOST_IN_BURST:
            raise InputError(f"--arrivals burst:N: N is 1 to {MOST_IN_BURST:,} requests")
    elif colon or kind not in ("poisson", "constant", "all"):
        raise InputError(f"--arrivals {(text or '')[:40]!r}: one of {VALID}")
    if kind == "all" and rate is not None:
        raise InputError("--arrivals all and --rate: one of them")
    if kind != "all" and rate is None:
        raise InputError(f"--arrivals {kind} needs --rate: requests a step, or a second")
    if rate is not None and not (1e-9 <= rate <= 1e9):
        raise InputError(f"--rate {rate}: a number above 0, at most 1e9")
    if burstiness is not None and kind != "poisson":
        raise InputError("--burstiness shapes --arrivals poisson, and needs --rate")
    if burstiness is not None and not (0.001 <= burstiness <= 1e6):
        raise InputError(f"--burstiness {burstiness}: a number from 0.001 to 1e6; 1 is Poisson")
    return Arrivals(kind=kind, rate=rate, burstiness=burstiness or 1.0, burst=burst)


def _gamma_gaps(random: Random, shape: float, scale: float) -> Iterator[float]:
    now = 0.0
    while math.isfinite(now):
        yield now
        now += random.expovariate(1 / scale) if shape == 1 else random.gammavariate(shape, scale)


def _bursts(size: int, rate: float) -> Iterator[float]:
    for number in count():  # not a running sum: a million small gaps would drift
        yield from repeat(number * size / rate, size)


MOST_REQUESTS = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class SharedPrefix:
    """What prompts begin with, such as a system prompt; each request picks one of ``count``.

    It comes on top of the prompt's own tokens, as ``--random-prefix-len`` of vLLM 0.33's
    ``bench serve`` does (benchmarks/datasets/datasets.py ``generate_token_sequence``).
    """

    tokens: int
    count: int = 1


def generated_requests(
    prompt: Lengths, output: Lengths, count: int, *, seed: int = 0
) -> Iterator[TraceRequest]:
    """``count`` requests with lengths drawn, all of them there from the start."""
    if not 1 <= count <= MOST_REQUESTS:
        raise InputError(f"--requests {count}: 1 to {MOST_REQUESTS:,}")
    prompts, outputs = _stream(seed, "prompt"), _stream(seed, "output")
    return (TraceRequest(0.0, prompt(prompts), output(outputs)) for _ in repeat(None, count))


def with_arrivals(
    requests: Iterable[TraceRequest], arrivals: Arrivals, *, seed: int = 0
) -> Iterator[TraceRequest]:
    """The requests, arriving as ``arrivals`` says, whatever the trace said."""
    times = arrivals.times(_stream(seed, "arrivals"))
    return (each._replace(arrival=now) for each, now in zip(requests, times, strict=False))


def with_pace(requests: Iterable[TraceRequest], scale: float) -> Iterator[TraceRequest]:
    """The requests ``scale`` times as fast: 2 halves the time between them."""
    if not (1e-6 <= scale <= 1e6):
        raise InputError(f"--scale {scale}: a factor from 1e-6 to 1e6; 2 is twice as fast")
    return (each._replace(arrival=each.arrival / scale) for each in requests)


def with_shared_prefix(
    requests: Iterable[TraceRequest], shared: SharedPrefix, *, seed: int = 0
) -> Iterator[TraceRequest]:
    """The requests, each behind one of the shared prefixes."""
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
