"""Step-5: windows between full layers that read chosen regions.

Source: vLLM 0.33 ``models/step5/nvidia/model.py``, ``config.py``;
``transformers_utils/configs/step5.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UnsupportedError
from ...records import replace
from ..layers.attention import Attention
from ..layers.base import CacheLayer
from ..layers.step5 import OpenRegion, RegionSummaries
from .reader import ModelReader


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
