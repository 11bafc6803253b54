"""KV cache groups: layers that share one block table; how their pages lie; windows kept in full.

vLLM names a layout by the order of its axes, outermost first: L layer, B block, H head, N state,
C content. With the block outermost, pages of different size may stand side by side in one block.

Source: vLLM 0.33 ``v1/kv_cache_layout.py``, ``v1/attention/backends/utils.py``
(``get_supported_kv_cache_layouts``, ``resolve_kv_cache_layout``), and
``kv_cache_planning``: ``unify_hybrid_kv_cache_specs``, ``_promote_local_kv_cache_specs``,
``_try_get_full_allocation_fallback_groups``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from math import lcm

from ..errors import UnsupportedError
from ..records import dataclass, fields
from .spec import round_up
from .specs import (
    AttentionSpec,
    ChunkedLocalAttentionSpec,
    CircularBufferSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MLAAttentionSpec,
    RequestLimits,
    SlidingWindowMLASpec,
    SlidingWindowSpec,
)

LAYOUTS = ("LBHNC", "LBNHC", "LHBNC", "BLHNC", "BLNHC", "BHLNC")
DEFAULT_PREFERENCE = ("LBNHC", "LBHNC", "BLNHC", "BLHNC", "BHLNC", "LHBNC")


def is_block_outermost(layout: str) -> bool:
    """Whether each block holds the pages of all layers side by side."""
    return layout[0] == "B"


def is_block_compact(layout: str) -> bool:
    """Whether a page is one run of bytes."""
    return set(layout[:2]) == {"L", "B"}


def supported_by_all(backends: Sequence[tuple[str, ...] | None]) -> tuple[str, ...]:
    """Layouts that every backend can read, best first; a backend of None takes any.

    Raises:
        UnsupportedError: No layout suits all of them.
    """
    declared = [layouts for layouts in backends if layouts is not None] or [DEFAULT_PREFERENCE]
    if all(layouts == declared[0] for layouts in declared[1:]):
        return declared[0]
    common = set.intersection(*map(set, declared))
    firsts = [layouts[0] for layouts in declared]
    ranked = sorted((x for x in LAYOUTS if x in common), key=firsts.count, reverse=True)
    if not ranked:
        raise UnsupportedError("the model's attention backends share no KV cache layout")
    return tuple(ranked)


def resolve_layout(candidates: Sequence[str], specs: Iterable[KVCacheSpec]) -> str:
    """The layout the engine settles on for these layers.

    Raises:
        UnsupportedError: Pages of different shape, and no candidate can hold them.
    """
    shapes, sharded, pages = set(), set(), set()
    for spec in specs:
        pages.add(spec.page_size_bytes)
        if isinstance(spec, AttentionSpec):
            shapes.add(spec.layout_shape())
            if not isinstance(spec, CircularBufferSpec):
                sharded.add(spec.dcp_sharded)
        else:
            shapes.add((1, 1, spec.page_size_bytes))
    usable = [x for x in candidates if len(shapes) < 2 or is_block_compact(x)]
    if len(sharded) > 1 and len(pages) > 1:
        usable = [x for x in usable if is_block_outermost(x)]
    if not usable:
        raise UnsupportedError("no KV cache layout can hold this model's mixed pages")
    return usable[0]


Layers = Mapping[str, KVCacheSpec]
"""Layer name to its spec, in the order vLLM builds the layers."""


@dataclass(frozen=True)
class KVCacheGroup:
    """Layers whose blocks are handed out together.

    Attributes:
        layers: Names of the layers in the group, with each one's own spec.
        spec: The spec that stands for the group in the scheduler.
        one_spec: Whether all layers carry that spec, so that the group's page is one layer's; else
            the group's page is all its layers' (vLLM's ``UniformTypeKVCacheSpecs``).
    """

    layers: Layers
    spec: KVCacheSpec
    one_spec: bool

    @classmethod
    def of(cls, layers: Layers, *, one_spec: bool) -> KVCacheGroup:
        """The group of these layers, its first layer standing for it."""
        return cls(layers, next(iter(layers.values())), one_spec)

    def on_worker(self, worker_layers: Layers) -> KVCacheGroup:
        """What of this group lies on a pipeline stage that has only ``worker_layers``."""
        if self.layers.keys() <= worker_layers.keys():
            return self
        kept = {name: spec for name, spec in self.layers.items() if name in worker_layers}
        return KVCacheGroup(kept, next(iter(kept.values()), self.spec), self.one_spec)

    @property
    def page_size_bytes(self) -> int:
        """The group's page, as vLLM reports it."""
        return self.spec.page_size_bytes if self.one_spec else self.page_bytes

    @cached_property
    def distinct(self) -> list[tuple[KVCacheSpec, int]]:
        """The group's distinct specs, and how many of its layers carry each."""
        return count_by_identity(self.layers.values())

    @property
    def page_bytes(self) -> int:
        """Bytes of one block of this group on its worker, without stride padding."""
        return sum(count * spec.page_size_bytes for spec, count in self.distinct)

    def stride_bytes(self) -> int:
        """The same with every page padded to its own stride alignment."""
        total = 0
        for spec, count in self.distinct:
            total += count * round_up(spec.page_size_bytes, spec.block_stride_alignment())
        return total

    def blocks_per_request(self, limits: RequestLimits) -> int:
        """Blocks of one request at ``max_model_len``: its neediest layer's."""
        if len(self.distinct) < 2:
            return self.spec.blocks_per_request(limits)
        return max(spec.blocks_per_request(limits) for spec, _ in self.distinct)


def count_by_identity(specs: Iterable[KVCacheSpec]) -> list[tuple[KVCacheSpec, int]]:
    """Distinct spec objects and how many layers carry each; layers alike share one object."""
    distinct: dict[int, KVCacheSpec] = {}
    counts: dict[int, int] = {}
    for spec in specs:
        key = id(spec)
        if key in counts:
            counts[key] += 1
        else:
            counts[key] = 1
            distinct[key] = spec
    return [(spec, counts[key]) for key, spec in distinct.items()]


def bytes_per_block(groups: Iterable[KVCacheGroup], layout: str) -> int:
    """Bytes that one block id costs on this worker: the largest group's.

    Source: vLLM 0.33 ``kv_cache_planning._get_kv_cache_bytes_per_block``.
    """
    groups = list(groups)
    if not is_block_outermost(layout):
        return max(group.stride_bytes() for group in groups)
    alignments = {spec.block_stride_alignment() for group in groups for spec, _ in group.distinct}
    return round_up(max(group.page_bytes for group in groups), lcm(*alignments))


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
    return stand_as_one(specs) or one_type(specs)


def stand_as_one(specs: list[KVCacheSpec]) -> bool:
    """Whether all specs merge into one (``is_kv_cache_spec_uniform``).

    Raises:
        UnsupportedError: Full attention with windows or chunks of several sizes, where vLLM ends
            with a ``ValueError`` (``FullAttentionSpec.merge_window_sizes``).
    """
    plain = [x for x in specs if isinstance(x, FullAttentionSpec) and x.kind == "full_attention"]
    for name in ("sliding_window", "attention_chunk_size"):
        if len(plain) == len(specs) and len({getattr(x, name) for x in plain} - {None}) > 1:
            raise UnsupportedError(
                "vLLM cannot store windows of several sizes as full attention (merge_window_sizes)"
            )
    return type(specs[0]).can_merge(specs)


def one_type(specs: list[KVCacheSpec]) -> bool:
    """Whether one block table serves all: same block size and the same token slots."""
    return all(specs[0].shares_blocks_with(spec) for spec in specs)


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
    kept = {each.name: getattr(spec, each.name) for each in fields(AttentionSpec)}
    return FullAttentionSpec(
        **{**kept, "block_size": block_size, "page_size_padded": padded},
        sliding_window=getattr(spec, "sliding_window", None),
        attention_chunk_size=getattr(spec, "attention_chunk_size", None),
    )
