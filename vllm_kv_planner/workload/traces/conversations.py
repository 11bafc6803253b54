"""ShareGPT's conversations as vLLM's benchmark uses them.

Restates ``ShareGPTDataset`` and ``is_valid_sequence`` of vLLM 0.33 (benchmarks/datasets/
datasets.py): the first two turns of a conversation are prompt and answer, whoever speaks; both
have at least 4 tokens, the prompt at most 1024, both together at most 2048. The benchmark shuffles
the file; here it is read in its own order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import InputError
from ...files.json_file import shown
from ..types import TraceRequest
from .tokens import TokenCounter

LEAST_TOKENS = 4
MOST_PROMPT_TOKENS = 1024
MOST_TOKENS_TOGETHER = 2048

FEW_TURNS = "conversations of fewer than two turns"
OUT_OF_BOUNDS = "conversations that vLLM's benchmark leaves out for their length"


def conversation_reader(
    count: TokenCounter, *, every_length: bool
) -> Callable[[Mapping[str, Any]], TraceRequest | str]:
    """A function from a conversation to its request, or to the reason for leaving it out."""

    def read(row: Mapping[str, Any]) -> TraceRequest | str:
        turns = row.get("conversations")
        if not isinstance(turns, list):
            problem = "are missing" if turns is None else f"{shown(turns)} is no list"
            raise InputError(f"conversations {problem}")
        if len(turns) < 2:
            return FEW_TURNS
        prompt, output = count(_said(turns[0])), count(_said(turns[1]))
        if not every_length and (
            prompt < LEAST_TOKENS
            or output < LEAST_TOKENS
            or prompt > MOST_PROMPT_TOKENS
            or prompt + output > MOST_TOKENS_TOGETHER
        ):
            return OUT_OF_BOUNDS
        return TraceRequest(0.0, prompt, output)

    return read


def _said(turn: object) -> str:
    value = turn.get("value") if isinstance(turn, dict) else None
    if not isinstance(value, str):
        raise InputError(f"a turn is {shown(turn)}, not an object with a text as value")
    return value
