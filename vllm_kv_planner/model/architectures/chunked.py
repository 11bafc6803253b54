"""Llama 4: chunks of the sequence where there is rotary embedding, all of it where there is none.

Source: vLLM 0.33 ``model_executor/models/llama4.py`` ``Llama4Attention``.
"""

from __future__ import annotations

from ...records import replace
from ..layers.attention import Attention
from .decoder import attention
from .reader import ModelReader


def llama4(model: ModelReader) -> list[Attention]:
    """Chunked attention in layers with rotary embedding."""
    text = model.text
    template = attention(model)
    chunk = text.opt_int("attention_chunk_size", minimum=0) or None
    rope = text.list_of_ints("no_rope_layers", minimum=0)
    if len(rope) < model.num_hidden_layers:
        raise text.error("no_rope_layers", f"lists {len(rope)} of {model.num_hidden_layers} layers")
    return [
        replace(
            template,
            index=index,
            attention_chunk_size=chunk if rope[index] else None,
            sliding_window=None if rope[index] and chunk else model.model_window,
        )
        for index in range(model.num_hidden_layers)
    ]
