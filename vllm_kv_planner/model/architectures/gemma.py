"""Gemma 3n and 4: the last layers read an earlier layer's cache; full layers may be wider.

Source: vLLM 0.33 ``model_executor/models/gemma3n.py``, ``gemma4.py``.
"""

from __future__ import annotations

from ...records import replace
from ..layers.attention import Attention
from .decoder import attention, own_or_model_window, with_own_heads
from .reader import ModelReader


def gemma3n(model: ModelReader) -> list[Attention]:
    """The last ``num_kv_shared_layers`` keep no cache: the two layers before them do it for all."""
    first = first_shared(model)
    layers = []
    for index in range(model.num_hidden_layers):
        window = own_or_model_window(model, index, "by_type")
        target = first - (1 if window is None else 2)
        shared = index >= first and target >= 0
        layers.append(
            replace(attention(model), index=index, sliding_window=window, kv_sharing=shared)
        )
    return layers


def gemma4(model: ModelReader) -> list[Attention]:
    """As Gemma 3n; each layer shares with the last of its own type, and has its own heads."""
    first = first_shared(model)
    own_cache = set((model.layer_types or ())[:first])
    for index in range(first, model.num_hidden_layers):
        if model.type_of(index) not in own_cache:
            raise model.text.error(
                "num_kv_shared_layers",
                f"leaves layer {index} no earlier {model.type_of(index)} layer whose cache it can "
                "share",
            )
    template = attention(model)
    layers = []
    for index in range(model.num_hidden_layers):
        layer = replace(
            template,
            index=index,
            sliding_window=own_or_model_window(model, index, "by_type"),
            kv_sharing=index >= first and model.type_of(index) in own_cache,
        )
        layers.append(with_own_heads(model, layer))
    return layers


def first_shared(model: ModelReader) -> int:
    """The first layer that reads another's cache."""
    layers = model.num_hidden_layers
    return layers - model.text.int("num_kv_shared_layers", default=0, minimum=0, maximum=layers)
