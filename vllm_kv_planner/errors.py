"""The planner's exceptions: one small tree, each message one clear line for a person."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 2000
"""Characters of a message; what it quotes may come from anywhere."""


def printable(text: str) -> str:
    """``text`` with whatever would not print (control characters, lone surrogates) escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """``text`` as one printable line of bounded length."""
    line = printable(" ".join(text[: 4 * LONGEST].split()))
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def nearest(name: str, known: Iterable[str], most: int = 3, likeness: float = 0.5) -> list[str]:
    """Names that ``name`` may be a slip of, the likest first (difflib's ratio)."""
    from difflib import get_close_matches

    return get_close_matches(name, list(known), n=most, cutoff=likeness)


class PlannerError(Exception):
    """Base of everything the planner raises on purpose. Command-line exit code 2.

    Whatever it is made with, its message is one printable line without secrets.
    """

    def __init__(self, message: object = "") -> None:
        from .masking import masked_text

        super().__init__(one_line(masked_text(str(message)[: 4 * LONGEST])))


class InputError(PlannerError, ValueError):
    """The input is wrong: which input, what was given, what is valid, on one line."""


class ConfigError(InputError):
    """A model's config cannot be found or read, or holds a value that makes no sense."""


class UnknownNameError(InputError):
    """A model, GPU or flag nobody knows; the message names the nearest known ones."""


class UnsupportedError(InputError):
    """Known but not plannable: an architecture, KV dtype or combination without a rule.

    vLLM may well run it; the message says what would answer (``--planner vllm``).
    """


class WeightsUnknownError(UnsupportedError):
    """The cache can be planned, and nobody knows the weights: neither a rule nor a checkpoint."""
