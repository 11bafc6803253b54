"""DeepSeek-V4 and V4.1: which caches each layer has, in vLLM's order.

Source: vLLM 0.33 ``models/deepseek_v4/attention.py``, ``models/deepseek_v41/attention.py``;
transformers ``DeepseekV4Config``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...errors import UnsupportedError
from ..description import ModelReader
from ..layers.base import CacheLayer
from ..layers.deepseek_v4 import (
    CompressedIndex,
    CompressedLatents,
    OpenGroups,
    WindowedLatents,
)
from ..layers.deepseek_v41 import DeepSeekV41Family, OpenPairs

INDEXED_RATIO = 4
"""Groups of so many tokens are chosen by an indexer; longer ones are all attended to."""


def v4(model: ModelReader) -> Sequence[CacheLayer]:
    """Windowed latents in every layer; compressed ones, with their open groups, in most."""
    return [
        layer
        for index, ratio in enumerate(compression(model))
        for layer in v4_layer(model, index, ratio)
    ]


def v4_layer(model: ModelReader, index: int, ratio: int) -> Iterable[CacheLayer]:
    """One decoder layer's caches; ``ratio`` 0 for a window alone."""
    text = model.text
    head_dim = text.int("head_dim", default=512)
    index_dim = text.int("index_head_dim", default=128)
    if ratio == INDEXED_RATIO:
        yield CompressedIndex(index=index, head_dim=index_dim, compress_ratio=ratio)
        yield OpenGroups(index=index, head_dim=index_dim, compress_ratio=ratio)
    yield WindowedLatents(
        index=index, head_dim=head_dim, sliding_window=text.int("sliding_window", default=128)
    )
    yield CompressedLatents(index=index, head_dim=head_dim, compress_ratio=ratio or None)
    if ratio:
        yield OpenGroups(index=index, head_dim=head_dim, compress_ratio=ratio)


RATIO_OF_TYPE = {
    "sliding_attention": 0,
    "compressed_sparse_attention": 4,
    "heavily_compressed_attention": 128,
}


def compression(model: ModelReader) -> list[int]:
    """Tokens per compressed latent of each layer; 0 for a window alone."""
    text = model.text
    count = model.num_hidden_layers
    heavy, light = "heavily_compressed_attention", "compressed_sparse_attention"
    if text.has("layer_types"):
        types = text.list_of_strs("layer_types")
    elif text.has("compress_ratios"):
        return known(model, text.list_of_ints("compress_ratios"))[:count]
    else:
        types = [light if index >= 2 and index % 2 else heavy for index in range(count)]
    rates = dict(RATIO_OF_TYPE)
    given = text.opt_sub("compress_rates")
    for kind, key in ((light, "compress_rate_csa"), (heavy, "compress_rate_hca")):
        default = rates[kind] if given is None else given.int(kind, default=0, minimum=0)
        rates[kind] = text.int(key, default=default, minimum=0)
    return known(model, [rates.get(kind, 0) for kind in types])[:count]


def known(model: ModelReader, ratios: Sequence[int]) -> list[int]:
    """The ratios, if all are ones vLLM has kernels for."""
    text = model.text
    if len(ratios) < model.num_hidden_layers:
        raise text.error("compress_ratios", f"lists {len(ratios)} layers")
    allowed = RATIO_OF_TYPE.values()
    unknown = sorted(set(ratios) - set(allowed))
    if unknown:
        raise UnsupportedError(f"{text.where}: compress ratio {unknown[0]} is not one of 0, 4, 128")
    return list(ratios)


def v41(model: ModelReader) -> Sequence[CacheLayer]:
    """Windowed latents in every layer; a few layers hold compressed ones for those after them."""
    text = model.text
    family = DeepSeekV41Family(num_heads=model.num_attention_heads, o_groups=text.int("o_groups"))
    ratios = text.list_of_ints("compress_ratios", default=())
    sources = set(text.list_of_ints("kv_source_layer_ids", default=()))
    indexed = set(text.list_of_ints("index_source_layer_ids", default=()))
    if not set(ratios) <= {0, 1, 2}:
        raise UnsupportedError(f"{text.where}: DeepSeek-V4.1 compresses by 0, 1 or 2")
    if any(ratios) and not (sources and indexed):
        raise text.error("kv_source_layer_ids", "and index_source_layer_ids are needed")
    if any(index >= len(ratios) or not ratios[index] for index in sources):
        raise text.error("kv_source_layer_ids", "names a layer that compresses nothing")
    layers: list[CacheLayer] = []
    for index in range(model.num_hidden_layers):
        ratio = ratios[index] if index < len(ratios) else 0
        owns = index in sources
        layers += v41_layer(model, family, index, ratio, owns=owns, indexed=index in indexed)
    return layers


def v41_layer(
    model: ModelReader,
    family: DeepSeekV41Family,
    index: int,
    ratio: int,
    *,
    owns: bool,
    indexed: bool,
) -> Iterable[CacheLayer]:
    """One decoder layer's caches; ``owns``: it holds the compressed latents."""
    text = model.text
    head_dim = text.int("head_dim", default=512)
    yield CompressedLatents(
        index=index, family=family, head_dim=head_dim, compress_ratio=ratio if owns else None
    )
    if owns and indexed:
        yield CompressedIndex(
            index=index,
            family=family,
            head_dim=text.int("index_head_dim", default=128),
            compress_ratio=ratio,
        )
    yield WindowedLatents(
        index=index,
        family=family,
        head_dim=head_dim,
        sliding_window=text.int("sliding_window"),
        bounded_replay=True,
    )
    if owns and ratio > 1:
        yield OpenPairs(index=index, family=family, head_dim=head_dim)
