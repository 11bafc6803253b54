"""Pages of different size side by side in one block (block-outermost layouts).

Source: vLLM 0.33 ``kv_cache_planning._get_packed_kv_cache_groups``, ``_approximate_gcd``.
"""

from __future__ import annotations

from ..records import dataclass, field
from .group import KVCacheGroup, Layers
from .math import cdiv
from .specs import CircularBufferSpec, KVCacheSpec, MambaSpec, SlidingWindowSpec


@dataclass
class Bucket:
    """Layers that one block table can serve, sorted by page size."""

    first: KVCacheSpec
    layers: dict[str, KVCacheSpec] = field(default_factory=dict)
    by_page: dict[int, list[str]] = field(default_factory=dict)

    def takes(self, spec: KVCacheSpec) -> bool:
        """Whether ``spec`` needs the same token slots as the layers already here."""
        first = self.first
        same_blocks = spec.block_size == first.block_size and spec.dcp_sharded == first.dcp_sharded
        return same_blocks and first.same_type_as(spec)

    def add(self, name: str, spec: KVCacheSpec) -> None:
        """Take the layer in."""
        self.layers[name] = spec
        self.by_page.setdefault(spec.page_size_bytes, []).append(name)

    @property
    def balanced(self) -> bool:
        """Whether every page size has as many layers: a pattern that repeats."""
        return len({len(names) for names in self.by_page.values()}) == 1

    @property
    def repeats(self) -> int:
        """Layers of the commonest page size: how often the pattern repeats."""
        return max(len(names) for names in self.by_page.values())

    def is_state(self, repeats_per_group: int | None) -> bool:
        """Whether the bucket can be cut down to one layer per group."""
        if isinstance(self.first, MambaSpec | CircularBufferSpec):
            return True
        return repeats_per_group is None and isinstance(self.first, SlidingWindowSpec)

    def groups_for(self, repeats_per_group: int | None) -> int:
        """Groups the bucket is cut into by the pattern alone."""
        if self.balanced and repeats_per_group is not None:
            return cdiv(self.repeats, repeats_per_group)
        return 1

    def widest_group(self, num_groups: int) -> int:
        """Bytes of the largest of so many groups."""
        return sum(cdiv(len(names), num_groups) * page for page, names in self.by_page.items())

    def cut(self, num_groups: int) -> list[KVCacheGroup]:
        """The groups: whole patterns, dealt out in turn."""
        if num_groups == 1:
            return [KVCacheGroup.of(self.layers, one_spec=False)]
        patterns = list(zip(*self.by_page.values(), strict=False))
        return [
            KVCacheGroup.of(
                {name: self.layers[name] for repeat in patterns[i::num_groups] for name in repeat},
                one_spec=False,
            )
            for i in range(num_groups)
        ]


def pack(layers: Layers) -> list[KVCacheGroup]:
    """Groups whose blocks hold mixed pages with as little padding as vLLM's search finds."""
    buckets = fill_buckets(layers)
    floor = max(
        (bucket.repeats for bucket in buckets if bucket.balanced and len(bucket.by_page) > 1),
        default=0,
    )
    repeats = (
        least_padding([b.repeats for b in buckets if b.balanced], lower_bound=floor)
        if floor
        else None
    )
    anchor = max(
        bucket.widest_group(
            len(bucket.layers) if bucket.is_state(repeats) else bucket.groups_for(repeats)
        )
        for bucket in buckets
    )
    groups = []
    for bucket in buckets:
        num_groups = bucket.groups_for(repeats)
        if bucket.is_state(repeats):
            states_per_block = max(anchor // bucket.first.page_size_bytes, 1)
            num_groups = max(num_groups, cdiv(len(bucket.layers), states_per_block))
        groups += bucket.cut(num_groups)
    return groups


def fill_buckets(layers: Layers) -> list[Bucket]:
    """Each layer goes to the first bucket that takes it."""
    buckets: list[Bucket] = []
    for name, spec in layers.items():
        for bucket in buckets:
            if bucket.takes(spec):
                break
        else:
            bucket = Bucket(spec)
            buckets.append(bucket)
        bucket.add(name, spec)
    return buckets


def least_padding(values: list[int], *, lower_bound: int) -> int:
    """The size, at least ``lower_bound``, to round all values up to with least padding.

    The larger one on ties.
    """
    candidates = range(max(1, lower_bound), max(*values, lower_bound) + 1)
    return min(candidates, key=lambda d: (sum(-value % d for value in values), -d))
