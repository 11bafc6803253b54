"""How long prompts and answers are: distributions written as one short text each.

Whatever is drawn is a whole number of tokens, rounded, and held between ``min`` (1 where none is
given) and ``max``: a longer draw counts as ``max``, as ``max_tokens`` cuts an answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING

from ..errors import InputError, printable
from ..units import parse_quantity

if TYPE_CHECKING:
    from random import Random

MOST_TOKENS = 1_000_000_000
"""Of one prompt or answer; the longest context anybody serves is a hundredth of it."""
MOST_CHOICES = 10_000

VALID = (
    "1000, 500-1500, normal:mean=1000,std=200, lognormal:mean=1000,sigma=0.8 (or median=, std=), "
    "exponential:mean=1000, choice:512@0.7,4096@0.3; min= and max= cut the curves"
)


Lengths = Callable[["Random"], int]
"""Draws one length in tokens, at least 1."""


def uniform(low: int, high: int) -> Lengths:
    """Every whole number from ``low`` to ``high``; nothing is drawn where only one is possible."""
    return lambda random: low if low == high else random.randint(low, high)


def curve(kind: str, first: float, second: float, given: dict[str, float]) -> Lengths:
    """A continuous distribution, rounded, and held between ``min`` and ``max`` of ``given``.

    Its parameters: of ``normal`` the mean and standard deviation, of ``lognormal`` those of the
    logarithm, of ``exponential`` the mean.
    """
    least, most = int(given.get("min", 1)), int(given.get("max", MOST_TOKENS))
    if least > most:
        raise InputError("min is above max")

    def draw(random: Random) -> int:
        if kind == "normal":
            drawn = random.normalvariate(first, second)
        elif kind == "lognormal":
            # exp() of more than 700 has no float; a billion tokens is exp(20.7)
            drawn = math.exp(min(random.normalvariate(first, second), 100.0))
        else:
            drawn = random.expovariate(1 / first)
        return min(max(round(drawn), least), most)

    return draw


_RANGE = re.compile(r"([0-9.]+[kKmMgG]?)-([0-9.]+[kKmMgG]?)")


def parse_lengths(text: str, flag: str = "lengths") -> Lengths:
    """The distribution that ``text`` describes; a refusal names ``flag`` and what is valid."""
    try:
        return _parsed(text.strip())
    except InputError as error:
        shown = printable(text if len(text) <= 60 else text[:57] + "...")
        raise InputError(f"{flag}: {shown!r}: {error}; valid: {VALID}") from None


def _parsed(text: str) -> Lengths:
    name, colon, rest = text.partition(":")
    if colon:
        read = _NAMED.get(name.strip().lower())
        if read is None:
            raise InputError("no such distribution")
        return read(rest)
    between = _RANGE.fullmatch(text)
    low, high = between.groups() if between is not None else (text, text)
    first, last = _tokens(low), _tokens(high)
    if first > last:
        raise InputError("the range ends before it begins")
    return uniform(first, last)


def _choice(text: str) -> Lengths:
    lengths: list[int] = []
    weights: list[float] = []
    parts = text.split(",", MOST_CHOICES)
    if len(parts) > MOST_CHOICES:
        raise InputError(f"more than {MOST_CHOICES:,} lengths")
    for part in parts:
        length, at, weight = part.partition("@")
        lengths.append(_tokens(length))
        weights.append(_number("weight", weight, least=0) if at else 1.0)
    if not sum(weights) > 0:
        raise InputError("every weight is 0")
    cumulative = tuple(accumulate(weights))
    return lambda random: random.choices(lengths, cum_weights=cumulative)[0]


def _normal(text: str) -> Lengths:
    given = _parameters(text, "mean", "std")
    return curve("normal", _needed(given, "mean", "normal"), _needed(given, "std", "normal"), given)


def _exponential(text: str) -> Lengths:
    given = _parameters(text, "mean")
    return curve("exponential", _needed(given, "mean", "exponential"), 0.0, given)


def _lognormal(text: str) -> Lengths:
    """``mean`` or ``median`` of the lengths; ``sigma`` of their logarithm, or their ``std``."""
    given = _parameters(text, "mean", "median", "sigma", "std")
    if ("mean" in given) == ("median" in given) or ("sigma" in given) == ("std" in given):
        raise InputError("lognormal needs mean= or median=, and sigma= or std=")
    if "std" in given and "mean" not in given:
        raise InputError("lognormal's std= goes with mean=")
    if "std" in given:
        sigma = math.sqrt(math.log1p((given["std"] / given["mean"]) ** 2))
    else:
        sigma = given["sigma"]
    # the mean of exp(N(mu, sigma)) is exp(mu + sigma^2 / 2), its median exp(mu)
    mu = math.log(given["median"]) if "median" in given else math.log(given["mean"]) - sigma**2 / 2
    return curve("lognormal", mu, sigma, given)


_NAMED: dict[str, Callable[[str], Lengths]] = {
    "choice": _choice,
    "normal": _normal,
    "lognormal": _lognormal,
    "exponential": _exponential,
}


def _parameters(text: str, *names: str) -> dict[str, float]:
    """``mean=1000,max=8k`` as numbers; lengths may carry vLLM's suffixes."""
    given: dict[str, float] = {}
    for part in text[:1000].split(","):
        name, _, value = (each.strip() for each in part.partition("="))
        if name not in (*names, "min", "max"):
            raise InputError(f"{name[:20]!r} is none of {', '.join((*names, 'min', 'max'))}")
        if name in given:
            raise InputError(f"{name} is given twice")
        if name in ("sigma", "std"):
            given[name] = _number(name, value, least=0, most=10 if name == "sigma" else MOST_TOKENS)
        else:
            given[name] = _tokens(value)
    return given


def _needed(given: dict[str, float], name: str, kind: str) -> float:
    if name not in given:
        raise InputError(f"{kind} needs {name}=")
    return given[name]


def _tokens(text: str) -> int:
    found = parse_quantity(text)
    if not 1 <= found <= MOST_TOKENS:
        raise InputError(f"lengths are 1 to {MOST_TOKENS:,} tokens")
    return found


def _number(name: str, text: str, *, least: float, most: float = 1e12) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not least <= found <= most:
        valid = f"{least:g} to {most:,.0f}"
        raise InputError(f"{name} {text.strip()[:20]!r} is not a number from {valid}")
    return found
