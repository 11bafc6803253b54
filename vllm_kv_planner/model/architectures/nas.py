"""Models found by architecture search: layers without attention, heads that differ.

Source: vLLM 0.33 ``model_executor/models/nemotron_nas.py`` ``DeciLMDecoderLayer``.
"""

from __future__ import annotations

from ...records import replace
from ..layers.attention import Attention
from .decoder import attention, own_or_model_window
from .reader import ModelReader


def nemotron_nas(model: ModelReader) -> list[Attention]:
    """Attention where ``block_configs`` keeps it, with the KV heads it says."""
    blocks = model.text.list_of_subs("block_configs", length=model.num_hidden_layers)
    template = attention(model)
    layers = []
    for index, block in enumerate(blocks):
        own = block.sub("attention")
        if own.bool("no_op", default=False):
            continue
        layers.append(
            replace(
                template,
                index=index,
                num_kv_heads=model.num_attention_heads // own.int("n_heads_in_group"),
                sliding_window=own_or_model_window(model, index, "by_type"),
            )
        )
    return layers
