"""Which prompts of a trace begin alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import InputError
from ...files.json_file import shown
from ..types import Segment
from .values import token_count


def hashed_prefix(row: Mapping[str, Any], prompt: int, block: int) -> tuple[Segment, ...]:
    """``hash_ids``: one id for every ``block`` tokens of the prompt, the last one for the rest.

    Ids beyond the prompt's end are left out, as vLLM's ``timed_trace`` benchmark leaves them out
    (benchmarks/datasets/datasets.py ``TimedTrace._expand_prompt``).

    Raises:
        InputError: They are no list of numbers or texts.
    """
    ids = row.get("hash_ids")
    if ids is None:
        return ()
    if not isinstance(ids, list):
        raise InputError(f"hash_ids {shown(ids)} is no list")
    segments = []
    for at, each in zip(range(0, prompt, block), ids, strict=False):
        if type(each) is not int and type(each) is not str:
            raise InputError(f"hash_ids holds {shown(each)}, which is neither a number nor a text")
        segments.append(Segment(each, min(block, prompt - at)))
    return tuple(segments)


def named_prefix(
    row: Mapping[str, Any], prompt: int, tokens: str | None, name: str | None
) -> tuple[Segment, ...]:
    """``prefix_tokens`` tokens that all requests with the same ``prefix_id`` begin with.

    Raises:
        InputError: It is longer than the prompt, or its id is neither a number nor a text.
    """
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
