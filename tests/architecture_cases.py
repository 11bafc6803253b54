"""How the tests of architectures read configs and count layers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vllm_kv_planner.config.presets import find_preset
from vllm_kv_planner.model.describe import describe
from vllm_kv_planner.model.description import ModelDescription
from vllm_kv_planner.model.layers.attention import Attention


def read(architecture: str, model_type: str, **values: Any) -> ModelDescription:
    config = {"architectures": [architecture], "model_type": model_type, **values}
    return describe(config, where="config.json")


def preset(model: str, **options: Any) -> ModelDescription:
    found = find_preset(model)
    assert found is not None
    return describe(found.config, where=model, **options)


def kinds(model: ModelDescription) -> Counter[tuple[Any, ...]]:
    """How many layers of each kind: KV heads, widths, window or chunk, type."""
    layers = [layer for layer in model.layers if isinstance(layer, Attention)]
    assert len(layers) == len(model.layers)
    return Counter(
        (
            layer.num_kv_heads,
            layer.head_size,
            layer.sliding_window or layer.attention_chunk_size,
            "shared" if layer.kv_sharing else layer.attn_type,
        )
        for layer in layers
    )


def plain(count: int, kv_heads: int, head_size: int) -> Counter[tuple[Any, ...]]:
    return Counter({(kv_heads, head_size, None, "decoder"): count})
