"""Models that vLLM runs through transformers' own code, giving it vLLM's attention layers.

Source: vLLM 0.33 ``model_executor/models/transformers/base.py`` ``_create_attention_instances``.
"""

from __future__ import annotations

from dataclasses import replace

from ..layers.attention import Attention
from ..layers.base import CacheLayer
from ..layers.latent import LatentAttention
from .decoder import attention, own_or_model_window
from .general import convertor, of_layer
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
    facts = convertor(model.top.str("model_type", default=""))
    overrides = model.text.opt_sub("per_layer_config")
    template = attention(model)
    layers: list[CacheLayer] = []
    for index in range(model.num_hidden_layers):
        own = None if overrides is None else overrides.opt_sub(str(index))
        layer = replace(
            template, index=index, sliding_window=own_or_model_window(model, index)
        )
        if own is not None:
            text = of_layer(model.text, own)
            layer = replace(
                layer,
                num_heads=facts.num_attention_heads(text),
                num_kv_heads=facts.num_kv_heads(text),
                head_size=facts.head_size(text),
            )
        layers.append(layer)
    return layers
