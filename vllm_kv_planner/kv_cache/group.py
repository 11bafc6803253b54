"""The KV cache group: layers that share one block table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from ..records import dataclass
from .layout import is_block_outermost
from .math import lcm_of, round_up
from .specs import KVCacheSpec, RequestLimits

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
        if len(worker_layers) >= len(self.layers) and self.layers.keys() <= worker_layers.keys():
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
    return round_up(max(group.page_bytes for group in groups), lcm_of(alignments))
