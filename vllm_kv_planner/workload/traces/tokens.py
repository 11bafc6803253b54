"""Tokens of a text: counted with the model's tokenizer, or guessed from its length."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from ...errors import InputError, one_line

CHARACTERS_PER_TOKEN = 4
"""Of English text, as OpenAI's guide to tokens says; code and other scripts take more tokens."""

TokenCounter = Callable[[str], int]


def token_counter(tokenizer: str | None) -> TokenCounter:
    """Counts a text's tokens as vLLM's ShareGPT benchmark does, special tokens included.

    Args:
        tokenizer: Hub id or directory, loaded with transformers; None: guessed, one token for
            every four characters begun. A tokenizer that comes as code is refused.

    Raises:
        InputError: transformers is not installed, or has no such tokenizer.
    """
    if tokenizer is None:
        return guessed_tokens
    try:
        with off_the_terminal():
            from transformers import AutoTokenizer
    except ImportError:
        raise InputError(
            "--tokenizer needs transformers: pip install transformers; "
            "without the flag tokens are guessed from the number of characters"
        ) from None
    try:
        with off_the_terminal():
            # Said, not left open: transformers would ask on standard input, which the trace may be.
            loaded = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
    except Exception as error:  # whatever it raises, the user sees one line
        reason = one_line(str(error))[:300]
        if "trust_remote_code" in str(error):
            reason = (
                "comes as code, which is never run: name a tokenizer that transformers has itself"
            )
        raise InputError(f"--tokenizer {tokenizer[:80]}: {reason}") from None

    def count(text: str) -> int:
        # verbose: it warns of texts that are longer than the model's context
        with off_the_terminal():
            return len(loaded(text, verbose=False).input_ids)

    return count


@contextlib.contextmanager
def off_the_terminal() -> Iterator[None]:
    """While a library runs: nothing for it to read on standard input, nor to print on output.

    A question of its own ends at once, and what it prints goes to standard error.
    """
    stdin = sys.stdin
    with open(os.devnull, encoding="utf-8") as nothing, contextlib.redirect_stdout(sys.stderr):
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = stdin


def guessed_tokens(text: str) -> int:
    """One token for every four characters begun."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)
