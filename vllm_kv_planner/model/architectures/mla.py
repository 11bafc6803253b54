"""Models whose every layer is latent attention, of all tokens or of those that an indexer chose.

Source: vLLM 0.33 ``model_executor/models/``: ``deepseek_v2.py``, ``glm4_moe_lite.py``, ``AXK1.py``,
``sarvam.py``, ``longcat_flash.py``, ``openpangu.py``; ``models/deepseek_v32/attention.py``,
``models/dots3_note/nvidia/model.py``, ``models/hy_v4/nvidia/attention.py``;
``transformers_utils/configs/hy_v4.py``; ``models/deepseek_v4/attention.py``,
``models/deepseek_v41/attention.py``, transformers ``DeepseekV4Config``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...errors import UnsupportedError
from ...records import replace
from ..description import ModelReader
from ..layers.attention import Attention
from ..layers.base import CacheLayer
from ..layers.deepseek_v4 import CompressedIndex, CompressedLatents, OpenGroups, WindowedLatents
from ..layers.deepseek_v41 import DeepSeekV41Family, OpenPairs
from ..layers.latent import (
    LatentAfterSparse,
    LatentAttention,
    PaddedLatentAttention,
    SinkLatentAttention,
    WindowedLatentAttention,
)
from ..layers.sparse import Indexer
from .blocks import attention, block_types, even_head_size, everywhere, latent
from .general import is_latent


def sparse(model: ModelReader) -> Sequence[CacheLayer]:
    """DeepSeek sparse attention (V3.2, GLM-5): latents, and an indexer's keys where it has one."""
    template = latent(model, use_sparse=True)
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
    window = latent(
        model,
        WindowedLatentAttention,
        prefix="swa_",
        sliding_window=model.text.int("sliding_window_size"),
        fixed="DOTS3_NOTE_TRITON_MLA",
    )
    full = latent(
        model,
        PaddedLatentAttention,
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
    sink = text.bool("learnable_sink", default=True)
    dense = latent(model)
    full = latent(model, SinkLatentAttention, use_sparse=True, has_sink=sink)
    later = latent(model, LatentAfterSparse, prefill_widths=None)
    first = next((index for index, kind in enumerate(types) if kind in SPARSE_TYPES), count)
    layers: list[CacheLayer] = []
    for index, (kind, indexer) in enumerate(zip(types, indexers, strict=True)):
        if kind in SPARSE_TYPES:
            own = indexer == "full"
            layers += with_indexer(model, replace(full, index=index, leads_index_group=own))
        else:
            layers.append(replace(later if index > first else dense, index=index))
    return layers


def latents(model: ModelReader) -> Sequence[CacheLayer]:
    """Latent attention in every layer, whatever vLLM counts the model as (Sarvam)."""
    return everywhere(model, latent(model))


def transformers(model: ModelReader) -> Sequence[CacheLayer]:
    """transformers' own model, whose attention vLLM recognises as latent (Mistral 4, Youtu).

    Source: vLLM 0.33 ``model_executor/models/transformers/base.py``.
    """
    layer = LatentAttention(
        num_heads=model.num_attention_heads,
        kv_lora_rank=model.text.int("kv_lora_rank"),
        qk_rope_head_dim=model.text.int("qk_rope_head_dim"),
    )
    return everywhere(model, layer)


def expanded(model: ModelReader) -> Attention:
    """What the latent stands for: every head's own key, values padded to its width."""
    text = model.text
    width = text.int("qk_nope_head_dim", default=0, minimum=0)
    return Attention(
        num_heads=model.num_attention_heads,
        num_kv_heads=model.num_attention_heads,
        head_size=width + text.int("qk_rope_head_dim", default=0, minimum=0),
        attn_type="decoder" if model.is_causal else "encoder_only",
    )


def deepseek(model: ModelReader) -> Sequence[CacheLayer]:
    """DeepSeek V2 to V3.1, Kimi K2, and what shares their layers.

    A config without latent dimensions (DeepSeek-MoE, DeepSeek-OCR) is plain attention. One whose
    type vLLM does not run with latents, or that is not causal (embeddings), stores expanded keys.
    """
    text = model.text
    widths = ("qk_nope_head_dim", "qk_rope_head_dim")
    has_latent = any(text.int(key, default=0, minimum=0) for key in widths)
    if not has_latent or text.str("model_type", default="") == "deepseek":
        return everywhere(model, attention(model, head_size=even_head_size(model)))
    if not is_latent(text) or not model.is_causal:
        return everywhere(model, expanded(model))
    return sparse(model) if text.get("index_topk") is not None else latents(model)


def longcat(model: ModelReader) -> Sequence[CacheLayer]:
    """LongCat-Flash: two latent layers in each of its ``num_layers``."""
    text = model.text
    if text.get("index_topk") is not None:
        raise UnsupportedError(f"{text.where}: LongCat with an indexer is not known to vLLM 0.33")
    pair = [latent(model)] * 2
    return [replace(one, index=index) for index in range(text.int("num_layers")) for one in pair]


def pangu(model: ModelReader) -> Sequence[CacheLayer]:
    """openPangu Ultra MoE: latents where the config has all their widths."""
    text = model.text
    widths = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank")
    if all(text.get(key) is not None for key in widths):
        return latents(model)
    raise UnsupportedError(
        f"{text.where}: an openPangu Ultra MoE without latent widths ({', '.join(widths)})"
    )


INDEXED_RATIO = 4
"""Groups of so many tokens are chosen by an indexer; longer ones are all attended to."""


def deepseek_v4(model: ModelReader) -> Sequence[CacheLayer]:
    """Windowed latents in every layer; compressed ones, with their open groups, in most."""
    ratios = enumerate(compression(model))
    return [layer for index, ratio in ratios for layer in v4_layer(model, index, ratio)]


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
    unknown = sorted(set(ratios) - set(RATIO_OF_TYPE.values()))
    if unknown:
        raise UnsupportedError(f"{text.where}: compress ratio {unknown[0]} is not one of 0, 4, 128")
    return list(ratios)


def deepseek_v41(model: ModelReader) -> Sequence[CacheLayer]:
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
