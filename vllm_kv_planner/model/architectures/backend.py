"""Models that vLLM runs through transformers' own code, giving it vLLM's attention layers.

Source: vLLM 0.33 ``model_executor/models/transformers/base.py`` ``_create_attention_instances``.
"""

from __future__ import annotations

from ...records import replace
from ..layers.base import CacheLayer
from ..layers.latent import LatentAttention
from .decoder import attention, own_or_model_window, with_own_heads
from .reader import ModelReader


def transformers(model: ModelReader) -> list[CacheLayer]:
    """Attention in every layer, with the general facts of each; window by layer type.

    Option ``latent``: its attention is one that vLLM recognises as latent.
    """
    if model.options.get("latent"):
        latent = LatentAttention(
            index=0,
            num_heads=model.num_attention_heads,
            kv_lora_rank=model.text.int("kv_lora_rank"),
            qk_rope_head_dim=model.text.int("qk_rope_head_dim"),
        )
        return [replace(latent, index=index) for index in range(model.num_hidden_layers)]
    template = attention(model)
    layers: list[CacheLayer] = []
    for index in range(model.num_hidden_layers):
        window = own_or_model_window(model, index, "by_type")
        layer = replace(template, index=index, sliding_window=window)
        layers.append(with_own_heads(model, layer))
    return layers
