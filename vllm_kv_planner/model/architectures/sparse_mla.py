"""Latent attention that reads tokens an indexer chose.

Source: vLLM 0.33 ``models/deepseek_v32/attention.py``, ``models/dots3_note/nvidia/model.py``,
``models/hy_v4/nvidia/attention.py``; ``transformers_utils/configs/hy_v4.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...records import replace
from ..layers.base import CacheLayer
from ..layers.indexer import Indexer
from ..layers.latent import (
    LatentAfterSparse,
    LatentAttention,
    PaddedLatentAttention,
    SinkLatentAttention,
    WindowedLatentAttention,
)
from .blocks import block_types, latent
from .reader import ModelReader


def sparse(model: ModelReader) -> Sequence[CacheLayer]:
    """DeepSeek sparse attention (V3.2, GLM-5): latents, and an indexer's keys where it has one."""
    template = replace(latent(model), use_sparse=True)
    layers: list[CacheLayer] = []
    for index, reuses in enumerate(reuses_index(model)):
        layers += with_indexer(model, replace(template, index=index, leads_index_group=not reuses))
    return layers


def with_indexer(model: ModelReader, layer: LatentAttention) -> Iterable[CacheLayer]:
    """The layer behind its indexer's keys, where it has an indexer."""
    if layer.leads_index_group:
        yield Indexer(index=layer.index, head_dim=model.text.int("index_head_dim", default=128))
    yield layer


def reuses_index(model: ModelReader) -> list[bool]:
    """Per layer, whether it attends to what an earlier layer's indexer chose.

    Either a pattern with one letter a layer, ``S`` sharing, or every n-th layer past an offset
    has its own.
    """
    text = model.text
    count = model.num_hidden_layers
    pattern = text.get("index_topk_pattern")
    if pattern is not None:
        if not isinstance(pattern, str | list):
            raise text.error("index_topk_pattern", "must be a string of F and S")
        return [index < len(pattern) and pattern[index] == "S" for index in range(count)]
    every = text.int("index_topk_freq", default=1)
    offset = text.int("index_skip_topk_offset", default=2, minimum=0)
    return [max(index - offset + 1, 0) % every != 0 for index in range(count)]


def dots3(model: ModelReader) -> Sequence[CacheLayer]:
    """dots3 NOTE: sparse latents, padded to the width of the windowed latents between them."""
    text = model.text
    width = latent(model, "swa_")
    window = WindowedLatentAttention(
        index=0,
        num_heads=width.num_heads,
        kv_lora_rank=width.kv_lora_rank,
        qk_rope_head_dim=width.qk_rope_head_dim,
        sliding_window=text.int("sliding_window_size"),
        fixed="DOTS3_NOTE_TRITON_MLA",
    )
    dense = latent(model)
    full = PaddedLatentAttention(
        index=0,
        num_heads=dense.num_heads,
        kv_lora_rank=dense.kv_lora_rank,
        qk_rope_head_dim=dense.qk_rope_head_dim,
        use_sparse=True,
        padded_head_size=window.head_size,
        fixed="DOTS3_NOTE_PADDED_MLA_SPARSE",
    )
    layers: list[CacheLayer] = []
    blocks = zip(block_types(model), reuses_index(model), strict=True)
    for index, (kind, reuses) in enumerate(blocks):
        if kind == "sliding_attention":
            layers.append(replace(window, index=index))
        else:
            layer = replace(full, index=index, leads_index_group=not reuses)
            layers += with_indexer(model, layer)
    return layers


SPARSE_TYPES = ("sparse_attention", "sparse", "indexed_attention")


def hunyuan(model: ModelReader) -> Sequence[CacheLayer]:
    """HY V4: latents, sparse in the layers listed, most of which reuse an earlier choice."""
    text = model.text
    count = model.num_hidden_layers
    by_default = [
        "full" if not index or (index - 1) % 4 == 0 else "shared" for index in range(count)
    ]
    indexers = text.list_of_strs("indexer_types", length=count, default=by_default)
    types = block_types(model, default=["full_attention"] * count)
    dense = latent(model)
    full = SinkLatentAttention(
        index=0,
        num_heads=dense.num_heads,
        kv_lora_rank=dense.kv_lora_rank,
        qk_rope_head_dim=dense.qk_rope_head_dim,
        use_sparse=True,
        has_sink=text.bool("learnable_sink", default=True),
    )
    later = LatentAfterSparse(
        index=0,
        num_heads=dense.num_heads,
        kv_lora_rank=dense.kv_lora_rank,
        qk_rope_head_dim=dense.qk_rope_head_dim,
    )
    first = next((index for index, kind in enumerate(types) if kind in SPARSE_TYPES), count)
    layers: list[CacheLayer] = []
    for index, (kind, indexer) in enumerate(zip(types, indexers, strict=True)):
        if kind in SPARSE_TYPES:
            own = indexer == "full"
            layers += with_indexer(model, replace(full, index=index, leads_index_group=own))
        else:
            layers.append(replace(later if index > first else dense, index=index))
    return layers
