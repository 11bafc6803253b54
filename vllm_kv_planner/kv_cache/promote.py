"""Windows and chunks stored as if they were full attention.

Source: vLLM 0.33 ``kv_cache_planning``: ``unify_hybrid_kv_cache_specs``,
``_promote_local_kv_cache_specs``, ``_try_get_full_allocation_fallback_groups``.
"""

from __future__ import annotations

from ..errors import UnsupportedError
from .group import Layers, count_by_identity
from .specs import (
    AttentionSpec,
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MLAAttentionSpec,
    SlidingWindowMLASpec,
    SlidingWindowSpec,
)


class NoOneKind(UnsupportedError):
    """The layers cannot be stored as one kind, which they must without the hybrid manager."""


def without_hybrid_manager(layers: Layers) -> Layers:
    """Layers as stored with ``--disable-hybrid-kv-cache-manager``.

    Raises:
        NoOneKind: Kinds that full attention cannot stand for.
    """
    result = dict(layers)
    for replicated in (False, True):
        part = {
            name: spec
            for name, spec in layers.items()
            if replicated == (isinstance(spec, AttentionSpec) and not spec.dcp_sharded)
        }
        promoted = promote(part) if part else part
        if promoted is None:
            raise NoOneKind(
                "without the hybrid KV cache manager vLLM cannot store this model's layers as one "
                "kind; leave it on"
            )
        result.update(promoted)
    return result


def full_allocation(layers: Layers) -> Layers | None:
    """Fallback for latents beside plain windows whose pages cannot be brought to one size."""
    kinds = {type(spec) for spec in layers.values()}
    if any(issubclass(kind, SlidingWindowMLASpec | ChunkedLocalAttentionSpec) for kind in kinds):
        return None
    if not any(issubclass(kind, MLAAttentionSpec) for kind in kinds):
        return None
    if not any(issubclass(kind, SlidingWindowSpec) for kind in kinds):
        return None
    return promote(layers)


def promote(layers: Layers) -> Layers | None:
    """Windows and chunks turned into full attention; None if the kinds still differ."""
    specs = [spec for spec, _ in count_by_identity(layers.values())]
    if one_kind(specs):
        return layers
    full_sizes = {spec.block_size for spec in specs if isinstance(spec, FullAttentionSpec)}
    if not full_sizes:
        return None
    block_size = full_sizes.pop() if len(full_sizes) == 1 else None
    promoted = {id(spec): promote_one(spec, block_size) for spec in specs}
    if not one_kind(list(promoted.values())):
        return None
    return {name: promoted[id(spec)] for name, spec in layers.items()}


def one_kind(specs: list[KVCacheSpec]) -> bool:
    """Whether the specs merge into one or share their token slots."""
    return type(specs[0]).can_merge(specs) or one_type(specs)


def one_type(specs: list[KVCacheSpec]) -> bool:
    """Whether one block table serves all: same block size and the same token slots."""
    first = specs[0]
    return all(
        spec.block_size == first.block_size
        and spec.dcp_sharded == first.dcp_sharded
        and first.same_type_as(spec)
        for spec in specs
    )


def promote_one(spec: KVCacheSpec, block_size: int | None) -> KVCacheSpec:
    """The full-attention spec that stores every token of a window or chunk layer."""
    if not isinstance(spec, SlidingWindowSpec | ChunkedLocalAttentionSpec):
        return spec
    block_size = block_size or spec.block_size
    padded = spec.page_size_padded
    if padded is not None:
        padded = max(padded, spec.unpadded_page_size_bytes * block_size // spec.block_size)
    if isinstance(spec, SlidingWindowMLASpec):
        raise NoOneKind(
            "without the hybrid KV cache manager vLLM 0.33 does not start on models with sliding "
            "latent (MLA) layers (its MLAAttentionSpec does not take their fields); leave it on"
        )
    return FullAttentionSpec(
        block_size=block_size,
        page_size_padded=padded,
        dcp_sharded=spec.dcp_sharded,
        block_stride_bytes=spec.block_stride_bytes,
        block_stride_tokens=spec.block_stride_tokens,
        num_kv_heads=spec.num_kv_heads,
        head_size=spec.head_size,
        head_size_v=spec.head_size_v,
        dtype_bytes=spec.dtype_bytes,
        kv_cache_dtype=spec.kv_cache_dtype,
        num_head_slots=spec.num_head_slots,
        state_content_bytes=spec.state_content_bytes,
        tokens_per_state=spec.tokens_per_state,
        sliding_window=getattr(spec, "sliding_window", None),
        attention_chunk_size=getattr(spec, "attention_chunk_size", None),
    )
