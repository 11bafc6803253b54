"""The KV cache of an engine: every group's blocks, out of one pool.

Source: vLLM 0.33 ``v1/core/kv_cache_manager.py`` ``KVCacheManager`` and
``v1/core/kv_cache_coordinator.py`` (the coordinators without prefix caching, of one group, and of
several).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..kv_cache.specs import (
    ChunkedLocalAttentionSpec,
    CircularBufferSpec,
    KVCacheSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from .blocks import BlockPool, CountingPool, Table
from .groups import ChunkGroup, FullGroup, Group, RingGroup, WindowGroup
from .queues import Request
from .states import StateGroup
from .types import EngineSettings, GroupSettings

KINDS: tuple[tuple[type[KVCacheSpec], type[Group]], ...] = (
    (SlidingWindowSpec, WindowGroup),
    (ChunkedLocalAttentionSpec, ChunkGroup),
    (CircularBufferSpec, RingGroup),
    (MambaSpec, StateGroup),
)
"""The rules of every kind of group that does not keep all its tokens until its request ends."""
Hit = tuple[list[Table], int, int]
"""Blocks found in each group, tokens found, and where a longer prefix ends that not all keep."""


def make_group(
    index: int, group: GroupSettings, settings: EngineSettings, pool: BlockPool
) -> Group:
    """The rules of a group, by its spec."""
    kinds = (kind for spec, kind in KINDS if isinstance(group.spec, spec))
    kind = next(kinds, FullGroup)
    if kind is StateGroup and not settings.enable_prefix_caching:
        kind = FullGroup
    return kind(index, group, settings, pool)


def make_families(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups of one spec are looked up together; those that keep everything first."""
    families: dict[KVCacheSpec, list[Group]] = {}
    for group in groups:
        if group.is_cached:
            families.setdefault(group.spec, []).append(group)
    return sorted(families.values(), key=lambda family: not family[0].keeps_all)


class KVCache:
    """Blocks of all groups, ``total`` in number.

    ``has_no_room`` says that the last request that was not admitted did not fit as a whole.
    """

    def __init__(self, settings: EngineSettings) -> None:
        caching = settings.enable_prefix_caching
        self.pool = (BlockPool if caching else CountingPool)(settings.num_gpu_blocks)
        self.groups = [
            make_group(index, group, settings, self.pool)
            for index, group in enumerate(settings.groups)
        ]
        self.cached = [group for group in self.groups if group.is_cached]
        self.dropping = [group for group in self.groups if not group.keeps_all]
        self.families = make_families(self.groups)
        self.total = settings.num_gpu_blocks - 1
        self.has_no_room = False
        self.max_model_len = settings.max_model_len
        self.watermark = settings.watermark_blocks
        self.reserve_full_prompt = settings.reserve_full_prompt
        self.nothing: list[Table] = [[] for _ in self.groups]
        self.with_states = [group for group in self.groups if isinstance(group, StateGroup)]
        # Of several groups, only what every one of them can end a hit on is worth a name.
        self.name_grid = settings.scheduler_block_size if len(self.groups) > 1 else 1

    @property
    def used(self) -> int:
        """Blocks that requests hold."""
        return self.total - self.pool.free

    def new_step(self) -> None:
        """A step begins."""
        for group in self.with_states:
            group.new_step()

    def find(self, request: Request) -> Hit:
        """The longest prefix of the request that every group still has.

        The last token is always computed again, for its logits.
        """
        if not self.families or (
            self.families[0][0].keeps_all and not (request.keys.shared or request.preemptions)
        ):
            return self.nothing, 0, 0
        found: dict[int, Table] = {}
        best, length = self._agree(request, found)
        for family in self.families:
            if family[0].keeps_all:
                for member in family:
                    del found[member.index][-(-length // member.block_size) :]
        blocks = [found.get(group.index, []) for group in self.groups]
        junction = best if len(self.groups) > 1 and best > length else 0
        return blocks, length, junction

    def _agree(self, request: Request, found: dict[int, Table]) -> tuple[int, int]:
        """Fill in the blocks found in each group, until all agree on a length.

        Returns:
            The longest prefix that any of them had on the way, and the one that all have.
        """
        families, lengths = self.families, dict[int, int]()
        best, length = 0, request.known - 1
        while True:
            now = length
            for family in families:
                first = family[0].index
                if family[0].keeps_all and first in found:
                    now = min(now, lengths[first])
                    continue
                tables, now = family[0].find(request, now, family)
                for member, table in zip(family, tables, strict=True):
                    found[member.index] = table
                lengths[first] = now
                best = max(best, now)
            if now >= length:
                return best, length
            length = now
            if len(self.groups) == 1 or (len(families) == 2 and families[0][0].keeps_all):
                return best, length

    def fits(
        self, request: Request, tokens: int, computed: int, hits: list[Table], *, capped: bool
    ) -> int:
        """Free blocks that ``tokens`` slots take, all groups together."""
        return sum(
            group.blocks_needed(request, tokens, computed, hits[group.index], capped=capped)
            for group in self.groups
        )

    def admit(
        self, request: Request, tokens: int, hits: list[Table], found: int, *, others: bool
    ) -> bool:
        """Give a waiting request the blocks found and those of its first step, if all fits.

        ``hits`` hold the first ``found`` tokens; the step computes ``tokens`` more. Where
        ``others`` run already, some blocks stay free (``watermark``).
        """
        free = self.pool.free - (self.watermark if others else 0)
        if self.reserve_full_prompt:
            whole = min(request.known, self.max_model_len)
            self.has_no_room = self.fits(request, whole, found, hits, capped=True) > free
            if self.has_no_room:
                return False
        needed = min(found + tokens, self.max_model_len)
        if self.fits(request, needed, found, hits, capped=False) > free:
            return False
        if any(hits):
            for group in self.groups:
                group.adopt(request, hits[group.index], found)
        for group in self.groups:
            group.grow(request, needed)
        self.name(request, min(found + tokens, request.known))
        return True

    def extend(self, request: Request, tokens: int) -> bool:
        """Give a running request slots for ``tokens`` more tokens, if they fit."""
        computed = request.computed
        needed = min(computed + tokens, self.max_model_len)
        for group in self.dropping:
            group.give_back_skipped(request, max(0, computed - request.in_flight))
        if self.fits(request, needed, computed, self.nothing, capped=False) > self.pool.free:
            return False
        for group in self.groups:
            group.grow(request, needed)
        self.name(request, min(computed + tokens, request.known))
        return True

    def name(self, request: Request, tokens: int) -> None:
        """Let others find the full blocks among the request's first ``tokens`` tokens."""
        tokens -= tokens % self.name_grid
        for group in self.cached:
            group.name(request, tokens)

    def has_shared_to_name(self, request: Request) -> bool:
        """Whether a block of its shared prefix has no name yet.

        With several groups, names are given where all of them can end a hit (``name_grid``), which
        may be behind the prompt's end.
        """
        shared = request.keys.shared
        return bool(shared) and any(
            request.named[group.index] < len(shared) // group.keys_per_block
            for group in self.cached
        )

    def extend_quietly(self, request: Request) -> bool:
        """Give a request that only decodes a slot for its next token, if it fits.

        Only blocks that may be given back before the request ends get their names on the way.
        """
        computed, processed = request.computed, request.computed - request.in_flight
        for group in self.dropping:
            if group.is_cached:
                group.name(request, processed - processed % self.name_grid)
            group.give_back_skipped(request, processed)
        if self.fits(request, computed + 1, computed, self.nothing, capped=False) > self.pool.free:
            return False
        for group in self.groups:
            group.grow(request, computed + 1)
        return True

    def release(self, request: Request, *, for_good: bool) -> None:
        """Let go of all of a request's blocks, which ends or is preempted."""
        for group in self.groups:
            group.give_back_all(request, for_good=for_good)
