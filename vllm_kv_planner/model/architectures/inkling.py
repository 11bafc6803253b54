"""Inkling: attention with short convolutions around it, kept as windows.

Source: vLLM 0.33 ``models/inkling/nvidia/model.py``, ``models/inkling/configs.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...records import replace
from ..layers.base import CacheLayer
from ..layers.inkling import ConvWindow, InklingAttention
from .reader import ModelReader


def inkling(model: ModelReader) -> Sequence[CacheLayer]:
    """Inkling: a convolution window and attention in every layer, windows in those listed."""
    text = model.text
    local = set(text.list_of_ints("local_layer_ids", default=()))
    heads = text.int("num_attention_heads", default=12)
    kv_heads = text.int("num_key_value_heads", default=4)
    width = text.int("head_dim", default=text.int("hidden_size", default=1536) // heads)
    full = InklingAttention(
        index=0, num_heads=heads, num_kv_heads=kv_heads, head_size=width, fixed="FLASH_ATTN"
    )
    window = replace(
        full,
        num_heads=text.int("swa_num_attention_heads", default=heads),
        num_kv_heads=text.int("swa_num_key_value_heads", default=kv_heads),
        head_size=text.int("swa_head_dim", default=width),
        sliding_window=text.int("sliding_window_size", default=512),
    )
    layers: list[CacheLayer] = []
    for index in range(model.num_hidden_layers):
        layer = replace(window if index in local else full, index=index)
        conv = ConvWindow(
            index=index,
            num_kv_heads=layer.num_kv_heads,
            head_dim=layer.head_size,
            hidden_size=text.int("hidden_size", default=1536),
            conv_kernel=text.int("sconv_kernel_size", "conv_kernel_size", default=4),
        )
        layers += [conv, layer]
    return layers
