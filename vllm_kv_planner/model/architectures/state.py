"""Models without attention: Mamba, Falcon-Mamba, Mamba 2.

Source: vLLM 0.33 ``model_executor/models/mamba.py``, ``mamba2.py``; defaults from transformers'
``MambaConfig``, ``Mamba2Config``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..layers.base import CacheLayer
from ..layers.mamba import Mamba1, Mamba2
from .blocks import everywhere
from .reader import ModelReader


def mamba1(model: ModelReader) -> Sequence[CacheLayer]:
    """Mamba and Falcon-Mamba: a state in every layer."""
    text = model.text
    expanded = text.int("expand", default=2) * text.int("hidden_size", default=768)
    layer = Mamba1(
        index=0,
        intermediate_size=text.int("intermediate_size", default=expanded),
        state_size=text.int("state_size", default=16),
        conv_kernel=text.int("conv_kernel", default=4, minimum=0),
    )
    return everywhere(model, layer)


def mamba2(model: ModelReader) -> Sequence[CacheLayer]:
    """Mamba 2 (Codestral Mamba): a state in every layer."""
    text = model.text
    expanded = text.int("expand", default=2) * text.int("hidden_size", default=4096)
    layer = Mamba2(
        index=0,
        intermediate_size=text.int("intermediate_size", default=expanded),
        n_groups=text.int("n_groups", default=8),
        num_heads=text.int("num_heads", default=128),
        head_dim=text.int("head_dim", default=64),
        state_size=text.int("state_size", default=128),
        conv_kernel=text.int("conv_kernel", default=4, minimum=0),
    )
    return everywhere(model, layer)


def no_caches(model: ModelReader) -> Sequence[CacheLayer]:
    """Encoders whose attention and convolutions see the whole text at once (LFM2 embeddings)."""
    return ()
