"""Encoders: every token sees every other, nothing is kept between steps.

Source: vLLM 0.33 ``model_executor/models/bert.py``, ``roberta.py``, ``modernbert.py`` and others;
``layers/attention/encoder_only_attention.py``.
"""

from __future__ import annotations

from ...records import replace
from ..layers.attention import Attention
from .decoder import attention
from .reader import ModelReader


def encoder(model: ModelReader) -> list[Attention]:
    """Encoder-only attention in every layer: a backend is chosen, no cache is kept."""
    template = replace(attention(model), attn_type="encoder_only", use_mm_prefix=False)
    return [replace(template, index=index) for index in range(model.num_hidden_layers)]


def nothing(model: ModelReader) -> list[Attention]:
    """No layer that vLLM knows of (Terratorch runs its own)."""
    return []
