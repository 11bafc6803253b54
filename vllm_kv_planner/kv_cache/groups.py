"""Which layers share a block table: vLLM's KV cache groups.

A block id belongs to one group at a time and its bytes serve whichever group holds it, so the
largest group decides what a block costs, and a request pays the sum of its groups' blocks.

Source: vLLM 0.33 ``v1/core/kv_cache_planning.py`` ``get_kv_cache_groups``; for pages of different
size side by side ``_get_packed_kv_cache_groups``, ``_approximate_gcd``.
"""

from __future__ import annotations

from ..errors import UnsupportedError
from ..records import dataclass, field, replace
from .group import (
    KVCacheGroup,
    Layers,
    count_by_identity,
    full_allocation,
    is_block_outermost,
    one_type,
    stand_as_one,
    without_hybrid_manager,
)
from .spec import cdiv
from .specs import (
    AttentionSpec,
    CircularBufferSpec,
    KVCacheSpec,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
)


@dataclass
class Bucket:
    """Layers that one block table can serve, sorted by page size."""

    first: KVCacheSpec
    layers: dict[str, KVCacheSpec] = field(default_factory=dict)
    by_page: dict[int, list[str]] = field(default_factory=dict)

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
        """The groups: whole patterns, dealt out in turn.

        Raises:
            UnsupportedError: A group would stay empty, or a layer without a group.
        """
        if num_groups == 1:
            return [KVCacheGroup.of(self.layers, one_spec=False)]
        patterns = list(zip(*self.by_page.values(), strict=False))
        if not self.balanced or num_groups > len(patterns):
            raise UnsupportedError(
                "vLLM does not start with these cache layers: it deals layers of one kind with "
                "pages of different size out to so many groups that some are left out (an "
                "assertion in _check_exact_partition)"
            )
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
            if bucket.first.shares_blocks_with(spec):
                break
        else:
            bucket = Bucket(spec)
            buckets.append(bucket)
        bucket.add(name, spec)
    return buckets


def least_padding(values: list[int], *, lower_bound: int) -> int:
    """The size, at least ``lower_bound`` one of them, to round all up to with least padding.

    The larger one on ties.
    """
    candidates = range(lower_bound, max(values) + 1)
    return min(candidates, key=lambda d: (sum(-value % d for value in values), -d))


LARGEST_BUCKET_RATIO = 1.5
"""Buckets nearer than this in size are padded to the larger instead of split by the smaller."""


def group_layers(
    layers: Layers, layout: str, *, hybrid_kv_cache_manager: bool = True
) -> list[KVCacheGroup]:
    """Groups of the whole model, as the engine forms them.

    Without the hybrid manager windows and chunks are stored like full attention.

    Raises:
        UnsupportedError: Pages that no rule of vLLM brings together.
    """
    if not layers:
        return []
    if not hybrid_kv_cache_manager:
        layers = without_hybrid_manager(layers)
    specs = [spec for spec, _ in count_by_identity(layers.values())]
    for spec in specs:
        if spec.page_size_bytes == 0:
            raise UnsupportedError(
                f"a KV cache block of {spec.block_size} tokens is too short for layers that keep "
                "one row for more tokens than that (vLLM stops with a division by zero); give a "
                "larger --block-size"
            )
    if stand_as_one(specs):
        return [KVCacheGroup.of(layers, one_spec=True)]
    if one_type(specs):
        return [KVCacheGroup.of(layers, one_spec=False)]
    if is_block_outermost(layout) and len({spec.page_size_bytes for spec in specs}) > 1:
        return pack(layers)
    unified = unify_pages(layers)
    if unified is None:
        promoted = full_allocation(layers)
        if promoted is None:
            raise UnsupportedError(
                "vLLM cannot bring this model's cache pages to one size: latent (MLA) pages "
                "beside others that they do not divide"
            )
        return [KVCacheGroup.of(promoted, one_spec=False)]
    return split_evenly(unified)


def unify_pages(layers: Layers) -> Layers | None:
    """Every page brought to the largest one's size; None where vLLM cannot.

    A page that divides the largest gets more tokens per block; another is padded (states and
    plain attention may be, latents may not).
    """
    distinct = [spec for spec, _ in count_by_identity(layers.values())]
    largest = max(spec.page_size_bytes for spec in distinct)
    unified: dict[int, KVCacheSpec] = {}
    for spec in distinct:
        page = spec.page_size_bytes
        if page == largest:
            unified[id(spec)] = spec
        elif isinstance(spec, MambaSpec):
            unified[id(spec)] = replace(spec, page_size_padded=largest)
        elif largest % page == 0:
            unified[id(spec)] = replace(spec, block_size=spec.block_size * (largest // page))
        elif isinstance(spec, AttentionSpec) and not isinstance(spec, MLAAttentionSpec):
            aligned = spec.page_size_padded is None and page != spec.unpadded_page_size_bytes
            unified[id(spec)] = spec if aligned else replace(spec, page_size_padded=largest)
        else:
            return None
    if any(spec.page_size_bytes != largest for spec in unified.values()):
        raise UnsupportedError(
            "vLLM does not start with these cache layers: padded pages would have to grow once "
            "more (an assertion in unify_kv_cache_spec_page_size)"
        )
    return {name: unified[id(spec)] for name, spec in layers.items()}


def split_evenly(layers: Layers) -> list[KVCacheGroup]:
    """Groups of equal layer count; layers of one kind are dealt out in turn.

    The smallest kind's count is the group size, so that a 1:5 pattern gives six groups; unless
    all counts are close, when the largest is (12 and 13 layers: two groups of 13).
    """
    buckets = mergeable_buckets(layers)
    counts = [len(names) for names in buckets]
    size = min(counts)
    if max(counts) < size * LARGEST_BUCKET_RATIO:
        size = max(counts)
    groups = []
    for names in buckets:
        parts = cdiv(len(names), size)
        for part in range(parts):
            dealt = {name: layers[name] for name in names[part::parts]}
            groups.append(KVCacheGroup.of(dealt, one_spec=True))
    return groups


def mergeable_buckets(layers: Layers) -> list[list[str]]:
    """Names of the layers whose specs may stand as one, kind by kind, in order of appearance."""
    by_spec: dict[KVCacheSpec, list[str]] = {}
    interned: dict[int, list[str]] = {}
    for name, spec in layers.items():
        names = interned.get(id(spec))
        if names is None:
            names = interned[id(spec)] = by_spec.setdefault(spec, [])
        names.append(name)
    buckets: list[tuple[list[KVCacheSpec], list[str]]] = []
    for spec, names in by_spec.items():
        for specs, bucket in buckets:
            if type(specs[0]).can_merge([*specs, spec]):
                specs.append(spec)
                bucket.extend(names)
                break
        else:
            buckets.append(([spec], list(names)))
    return [names for _, names in buckets]
