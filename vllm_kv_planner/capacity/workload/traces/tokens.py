"""Tokens of a text: counted with the model's tokenizer, or guessed from its length."""

from __future__ import annotations

from collections.abc import Callable

from ....errors import InputError, one_line

CHARACTERS_PER_TOKEN = 4
"""Of English text, as OpenAI's guide to tokens says; code and other scripts take more tokens."""

TokenCounter = Callable[[str], int]


def token_counter(tokenizer: str | None) -> TokenCounter:
    """Counts a text's tokens as vLLM's ShareGPT benchmark does, special tokens included.

    Args:
        tokenizer: Hub id or directory, loaded with transformers; None: guessed, one token for
            every four characters begun.

    Raises:
        InputError: transformers is not installed, or has no such tokenizer.
    """
    if tokenizer is None:
        return guessed_tokens
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise InputError(
            "--tokenizer needs transformers: pip install transformers; "
            "without the flag tokens are guessed from the number of characters"
        ) from None
    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer)
    except Exception as error:  # whatever it raises, the user sees one line
        raise InputError(f"--tokenizer {tokenizer[:80]}: {one_line(str(error))[:300]}") from None

    def count(text: str) -> int:
        # verbose: it warns of texts that are longer than the model's context
        return len(loaded(text, verbose=False).input_ids)

    return count


def guessed_tokens(text: str) -> int:
    """One token for every four characters begun."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)
