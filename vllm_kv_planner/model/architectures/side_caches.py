"""Attention with caches of its own beside it: index keys, summaries, windows of convolutions.

Source: vLLM 0.33 ``models/minimax_m3/nvidia/model.py``, ``models/qwen4_exp/nvidia/model.py``,
``models/step5/nvidia/model.py`` and ``config.py``, ``models/inkling/nvidia/model.py`` and
``models/inkling/configs.py``; ``transformers_utils/configs/`` ``minimax_m3.py``, ``step5.py``;
transformers ``Qwen4ExpTextConfig``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UnsupportedError
from ...records import replace
from ..description import ModelReader
from ..layers.attention import Attention, ConvWindow, InklingAttention
from ..layers.base import CacheLayer
from ..layers.delta_net import NgramConv
from ..layers.sparse import (
    IndexKeys,
    MiniMaxSparseAttention,
    OpenGroupKeys,
    OpenRegion,
    RegionSummaries,
)
from .blocks import attention, block_types, every_nth, repeated
from .delta_net import qwen_delta_net


def minimax_m3(model: ModelReader) -> Sequence[CacheLayer]:
    """MiniMax-M3: plain attention in some layers; index keys and sparse attention in the rest."""
    text = model.text
    count = model.num_hidden_layers
    given = text.opt_sub("sparse_attention_config")
    default = [0] * 3 + [1] * 57 if given is None else []
    frequencies = default
    index_dim = 128
    if given is not None:
        frequencies = given.list_of_ints("sparse_attention_freq", default=())
        index_dim = given.int("sparse_index_dim") if any(frequencies) else index_dim
    plain = attention(model, head_size=text.int("head_dim", default=128))
    chosen = MiniMaxSparseAttention(
        num_heads=plain.num_heads,
        num_kv_heads=plain.num_kv_heads,
        head_size=plain.head_size,
    )
    keys = IndexKeys(head_dim=index_dim, is_indexer=True, fixed="MINIMAX_M3_SPARSE_INDEXER")
    dense, sparse = repeated(plain), repeated(keys, chosen)
    flags = [*frequencies, *[0] * count][:count]
    return [
        layer for index, flag in enumerate(flags) for layer in (sparse if flag else dense)(index)
    ]


def qwen4(model: ModelReader) -> Sequence[CacheLayer]:
    """Qwen4: delta nets, attention to chosen tokens, and n-gram convolutions in a few layers."""
    text = model.text
    count = model.num_hidden_layers
    interval = text.int("full_attention_interval", default=4)
    default = every_nth(count, interval, nth="indexed_attention", others="linear_attention")
    types = block_types(model, "layer_types", default=default)
    delta_net = qwen_delta_net(model)
    ngrams = NgramConv(
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
        OpenGroupKeys(head_dim=head_dim, tokens_per_key=group, keeps_positions=uses_mrope(model)),
        IndexKeys(head_dim=head_dim, tokens_per_key=group, fixed="QWEN4_EXP_EXP_QSA_STATE"),
        replace(plain, fixed="QWEN4_EXP_QSA_TRITON"),
    ]


def uses_mrope(model: ModelReader) -> bool:
    """Whether positions have three axes: the multimodal class, with the rope sections for it."""
    if "multimodal" not in model.options.get("flags", ()):
        return False
    rope = model.text.opt_sub("rope_parameters", "rope_scaling")
    return rope is not None and rope.get("mrope_section") is not None


def step5(model: ModelReader) -> Sequence[CacheLayer]:
    """Step-5: windows between full layers, which keep summaries and an open region each."""
    text = model.text
    section = text.opt_sub("sparse_config")
    if section is None:
        raise UnsupportedError(f"{text.where}: vLLM runs Step-5 only with a sparse_config section")
    sparse = section.bool("enabled", default=True)
    types = text.list_of_strs("layer_types_with_mtp", "layer_types", default=())
    layers: list[CacheLayer] = []
    for index in range(model.num_hidden_layers):
        layers += step5_layer(model, index, types[index] if types else None, sparse=sparse)
    return layers


def step5_layer(
    model: ModelReader, index: int, kind: str | None, *, sparse: bool
) -> list[CacheLayer]:
    """One decoder layer's caches. Without types, even layers slide, yet all count as full."""
    text = model.text
    slides = kind == "sliding_attention" if kind is not None else index % 2 == 0
    window = text.opt_int("sliding_window") if slides else None
    heads = text.int("num_attention_heads")
    groups = text.int("num_attention_groups")
    head_dim = text.opt_int("head_dim")
    other = text.opt_sub("attention_other_setting")
    if other is not None and kind is not None and other.opt_str("attention_type") == kind:
        heads = other.int("num_attention_heads", default=heads)
        groups = other.int("num_attention_groups", default=groups)
        head_dim = other.opt_int("head_dim") or head_dim
    if window is not None:
        heads = text.int("swa_num_attention_heads", default=heads)
    indexed = sparse and kind in (None, "full_attention") and window is None
    layer = Attention(
        index=index,
        num_heads=heads,
        num_kv_heads=groups,
        head_size=head_dim or text.int("hidden_size") // heads,
        sliding_window=window,
        fixed="STEP5_DSA" if indexed else "FLASH_ATTN",
    )
    if not indexed:
        return [layer]
    main = replace(layer, index=0)
    return [layer, RegionSummaries(index=index), OpenRegion(index=index, attention=main)]


def inkling(model: ModelReader) -> Sequence[CacheLayer]:
    """Inkling: a convolution window and attention in every layer, windows in those listed."""
    text = model.text
    local = set(text.list_of_ints("local_layer_ids", default=()))
    heads = text.int("num_attention_heads", default=12)
    kv_heads = text.int("num_key_value_heads", default=4)
    width = text.int("head_dim", default=text.int("hidden_size", default=1536) // heads)
    full = InklingAttention(
        num_heads=heads, num_kv_heads=kv_heads, head_size=width, fixed="FLASH_ATTN"
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
