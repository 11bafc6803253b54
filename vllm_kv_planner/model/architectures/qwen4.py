"""Qwen4: delta nets, attention to chosen tokens, n-gram convolutions.

Source: vLLM 0.33 ``models/qwen4_exp/nvidia/model.py``; transformers ``Qwen4ExpTextConfig``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...records import replace
from ..layers.base import CacheLayer
from ..layers.delta_net import NgramConv
from ..layers.sparse import IndexKeys, OpenGroupKeys, SparseAttention
from .blocks import attention, block_types, repeated
from .delta_net import qwen_delta_net
from .reader import ModelReader


def qwen4(model: ModelReader) -> Sequence[CacheLayer]:
    """Qwen4: delta nets, attention to chosen tokens, and n-gram convolutions in a few layers."""
    text = model.text
    count = model.num_hidden_layers
    interval = text.int("full_attention_interval", default=4)
    default = [
        "linear_attention" if (index + 1) % interval else "indexed_attention"
        for index in range(count)
    ]
    types = block_types(model, "layer_types", default=default)
    delta_net = qwen_delta_net(model)
    ngrams = NgramConv(
        index=0,
        channels=text.int("hidden_size") * text.int("hc_count", default=4),
        state_length=(text.int("ple_conv_kernel_size", default=4) - 1)
        * text.int("ngram_size", default=3),
        beside=delta_net,
    )
    with_ngrams = set(text.list_of_ints("ple_layer_ids", default=()))  # counted from one
    attend = repeated(*qwen4_attention(model))
    layers: list[CacheLayer] = []
    for index, kind in enumerate(types):
        if index + 1 in with_ngrams:
            layers.append(replace(ngrams, index=index))
        if kind == "linear_attention":
            layers.append(replace(delta_net, index=index))
        else:
            layers += attend(index)
    return layers


def qwen4_attention(model: ModelReader) -> list[CacheLayer]:
    """Plain where the config has no indexer; else the open group, its keys and the attention."""
    text = model.text
    plain = attention(model, head_size=text.int("head_dim", default=256))
    if text.get("indexer_n_heads") is None:
        return [plain]
    head_dim = text.int("indexer_head_dim")
    group = text.int("indexer_compress_ratio")
    return [
        OpenGroupKeys(
            index=0, head_dim=head_dim, tokens_per_key=group, keeps_positions=uses_mrope(model)
        ),
        IndexKeys(
            index=0, head_dim=head_dim, tokens_per_key=group, fixed="QWEN4_EXP_EXP_QSA_STATE"
        ),
        SparseAttention(
            index=0,
            num_heads=plain.num_heads,
            num_kv_heads=plain.num_kv_heads,
            head_size=plain.head_size,
            heeds_skip_layers=True,
            fixed="QWEN4_EXP_QSA_TRITON",
        ),
    ]


def uses_mrope(model: ModelReader) -> bool:
    """Whether positions have three axes: the multimodal class, with the rope sections for it."""
    if "multimodal" not in model.options.get("flags", ()):
        return False
    rope = model.text.opt_sub("rope_parameters", "rope_scaling")
    return rope is not None and rope.get("mrope_section") is not None
