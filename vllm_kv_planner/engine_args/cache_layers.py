"""The model's cache layers as this engine runs them: backends, block size, specs per stage.

The order is vLLM's: every layer's backend is chosen, the block size follows from the backends,
hybrids align it with their states' pages, and then every layer says how large its cache is.

Source: vLLM 0.33 ``platforms/interface.py`` ``Platform.update_block_size_for_backend``;
``v1/worker/gpu/attn_utils.py`` ``get_kv_cache_spec``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..kv_cache.group import Layers
from ..kv_cache.layout import resolve_layout, supported_by_all
from ..kv_cache.specs import KVCacheSpec
from ..model.context import CacheContext
from ..model.description import ModelDescription
from ..model.layers.base import CacheLayer
from .attention_backend import AttentionBackend

Chooser = Callable[[CacheLayer, CacheContext], AttentionBackend | None]
"""The backend of a layer; None for states."""


@dataclass(frozen=True, kw_only=True)
class CacheLayers:
    """What the KV cache is planned from.

    Attributes:
        stages: Per pipeline stage its layers' specs, by layer name.
        layout: The KV cache layout.
        backends: Names of the distinct attention backends, in layer order.
    """

    stages: tuple[Layers, ...]
    layout: str
    backends: tuple[str, ...]


Variant = tuple[int, bool]
"""A kind of layer, and whether its KV cache is kept unquantised."""


def variants(model: ModelDescription, context: CacheContext) -> list[Variant]:
    """The variant of every layer, in layer order."""
    skipped = frozenset(context.kv_cache_dtype_skip_layers)
    if not skipped:
        return [(kind, False) for kind in model.kind_of_layer]
    return [
        (kind, str(layer.index) in skipped)
        for kind, layer in zip(model.kind_of_layer, model.layers, strict=True)
    ]


def backend_of_each(
    model: ModelDescription, context: CacheContext, choose: Chooser
) -> dict[Variant, AttentionBackend | None]:
    """The attention backend of every variant, in layer order; None for states."""
    backends: dict[Variant, AttentionBackend | None] = {}
    for variant, layer in zip(variants(model, context), model.layers, strict=True):
        if variant not in backends:
            backends[variant] = choose(layer, context)
    return backends


def distinct(backends: Iterable[AttentionBackend | None]) -> list[AttentionBackend]:
    """Each backend class once, in layer order."""
    return list({backend.name: backend for backend in backends if backend is not None}.values())


def build_cache_layers(
    model: ModelDescription,
    context: CacheContext,
    backends: Mapping[Variant, AttentionBackend | None],
    layers_per_stage: Sequence[int],
) -> CacheLayers:
    """Every layer's spec, dealt out to the pipeline stages."""
    specs: dict[Variant, KVCacheSpec | None] = {}
    bounds = list(accumulate(layers_per_stage))
    stages: list[dict[str, KVCacheSpec]] = [{} for _ in bounds]
    each = zip(variants(model, context), model.layers, strict=True)
    for position, (variant, layer) in enumerate(each):
        if variant not in specs:
            specs[variant] = layer.cache_spec(context, backends[variant])
        spec = specs[variant]
        if spec is not None:
            stages[stage_of(layer.index, bounds)][str(position)] = spec
    used = [backend for backend in backends.values() if backend is not None]
    candidates = supported_by_all([backend.layouts for backend in used])
    kept = [spec for spec in specs.values() if spec is not None]
    return CacheLayers(
        stages=tuple(stages),
        layout=resolve_layout(candidates, kept),
        backends=tuple(backend.name for backend in distinct(used)),
    )


def stage_of(index: int, bounds: Sequence[int]) -> int:
    """Stage that holds decoder layer ``index``; layers behind the last (draft models) go there."""
    return min(bisect_right(bounds, index), len(bounds) - 1)
