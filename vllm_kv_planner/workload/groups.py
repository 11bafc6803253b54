"""How each kind of cache group hands out, keeps, names and finds blocks.

Source: vLLM 0.33 ``v1/core/single_type_kv_cache_manager.py``; one class for each of its managers,
less what is for KV connectors, speculative decoding and hits inside a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..kv_cache.spec import cdiv
from ..kv_cache.specs import ChunkedLocalAttentionSpec, SlidingWindowSpec
from .blocks import NOT_HELD, BlockPool, Names, Table, known
from .queues import Request
from .types import EngineSettings, GroupSettings

Found = tuple[list[Table], int]
"""The blocks found in each of several groups, and how many tokens they hold."""


class Group:
    """What all kinds have in common: every token keeps its slot, and full blocks get a name.

    Attributes:
        index: Of the group.
        block_size: Tokens of one block.
        names: Its blocks by name.
    """

    keeps_all: ClassVar[bool] = False
    """Whether all blocks are kept, so that a hit holds for every shorter length as well."""

    def __init__(
        self, index: int, group: GroupSettings, settings: EngineSettings, pool: BlockPool
    ) -> None:
        self.index = index
        self.spec = group.spec
        self.block_size = group.block_size
        self.admission_cap = group.admission_cap
        self.pool = pool
        self.names: Names = {}
        self.is_cached = settings.enable_prefix_caching and group.spec.prefix_cacheable
        self.hash_block_size = settings.hash_block_size
        self.keys_per_block = group.block_size // settings.hash_block_size or 1
        self.alignment = settings.scheduler_block_size

    def skipped(self, computed: int) -> int:
        """Tokens at the start that are not looked at once ``computed`` are there."""
        return 0

    def quiet_steps(self, computed: int, in_flight: int) -> int:
        """Decode steps from here on in which the request's blocks stay as they are."""
        return -computed % self.block_size

    def blocks_needed(
        self, request: Request, tokens: int, computed: int, hits: Table, *, capped: bool
    ) -> int:
        """Free blocks it takes to give the request ``tokens`` slots; found ones that are free too.

        ``computed`` tokens are there, those found in ``hits`` included. ``capped``: blocks that
        will be given back on the way count only once.
        """
        required = -(-tokens // self.block_size)
        if capped and self.admission_cap is not None:
            required = min(required, self.admission_cap)
        held = len(request.tables[self.index])
        if not hits:
            return max(required - max(held, self.skipped(computed) // self.block_size), 0)
        skipped = self.skipped(computed) // self.block_size
        new = max(required - max(skipped, held + len(hits)), 0)
        return new + free_ones(hits[max(0, skipped - held) :])

    def adopt(self, request: Request, hits: Table, tokens: int) -> None:
        """Give the request the blocks found for its first ``tokens`` tokens."""
        skipped = self.skipped(tokens) // self.block_size
        kept = hits[skipped:]
        self.pool.hold(kept)
        request.tables[self.index] = [*[None] * skipped, *kept]
        request.named[self.index] = skipped + len(kept)

    def grow(self, request: Request, tokens: int) -> None:
        """Give the request blocks for ``tokens`` tokens in all."""
        table = request.tables[self.index]
        new = -(-tokens // self.block_size) - len(table)
        if new > 0:
            table += self.pool.take(new)

    def give_back_skipped(self, request: Request, processed: int) -> None:
        """Let go of blocks that no step still looks at, ``processed`` tokens being settled."""
        skipped = self.skipped(processed)
        if skipped > 0:
            table = request.tables[self.index]
            self.give_back_range(request, min(skipped // self.block_size, len(table)))

    def give_back_range(self, request: Request, last: int) -> None:
        """Let go of the blocks before ``last``, from the last one down to the first null block."""
        table = request.tables[self.index]
        first = last
        while first > 0 and table[first - 1] is not None:
            first -= 1
        if first < last:
            self.pool.give_back(table[first:last][::-1])
            table[first:last] = [None] * (last - first)

    def name(self, request: Request, tokens: int) -> None:
        """Name the full blocks among the first ``tokens`` tokens."""
        hashed = request.known // self.hash_block_size * self.hash_block_size
        first, last = request.named[self.index], min(tokens, hashed) // self.block_size
        if first < last:
            self.name_range(request, first, last)
            request.named[self.index] = last

    def name_range(self, request: Request, first: int, last: int) -> None:
        """Name the blocks from ``first`` to ``last``, less one."""
        keys = request.keys.between(first, last, self.keys_per_block)
        self.pool.name(request.tables[self.index][first:last], keys, self.names)

    def give_back_all(self, request: Request, *, for_good: bool) -> None:
        """The request ends (``for_good``) or is preempted: its last blocks are reused first."""
        self.pool.give_back(reversed(request.tables[self.index]))
        request.tables[self.index] = []
        request.named[self.index] = 0

    def find(self, request: Request, longest: int, members: Sequence[Group]) -> Found:
        """The longest prefix, up to ``longest`` tokens, that every one of ``members`` keeps."""
        keys = request.keys.between(0, self.worth_looking(request, longest), self.keys_per_block)
        found: list[Table] = []
        for member in members:
            table: Table = []
            for key in keys:
                block = member.names.get(key)
                if block is None:
                    break
                table.append(block[0] if isinstance(block, list) else block)
            found.append(table)
            keys = keys[: len(table)]
        tokens = len(keys) * self.block_size
        return cut(found, (tokens - tokens % self.alignment) // self.block_size, self.block_size)

    def found(self, request: Request, index: int, members: Sequence[Group]) -> Table | None:
        """The block at this position of every member; None where one lacks it."""
        key = request.keys.at((index + 1) * self.keys_per_block - 1)
        blocks: Table = [known(member.names, key) for member in members]
        return None if None in blocks else blocks

    def worth_looking(self, request: Request, longest: int) -> int:
        """Blocks that may be found: only a request that ran before finds its own."""
        most = longest // self.block_size
        if request.preemptions:
            return most
        return min(most, len(request.keys.shared) // self.keys_per_block)


class FullGroup(Group):
    """Every token keeps its slot until the request ends (``FullAttentionManager``).

    Names of blocks that only one request can have are looked up by nobody else: they are given when
    it is preempted, and never if it just ends.
    """

    keeps_all = True

    def name_range(self, request: Request, first: int, last: int) -> None:
        """Name the blocks that others may look up."""
        if not request.preemptions:
            last = min(last, len(request.keys.shared) // self.keys_per_block)
        if first < last:
            super().name_range(request, first, last)

    def give_back_all(self, request: Request, *, for_good: bool) -> None:
        """The request ends (``for_good``) or is preempted: its last blocks are reused first."""
        if not self.is_cached or request.preemptions:
            super().give_back_all(request, for_good=for_good)
            return
        table, named = request.tables[self.index], request.named[self.index]
        own = min(len(request.keys.shared) // self.keys_per_block, named)
        if for_good:
            self.pool.give_back_own(named - own, len(table) - named)
            del table[own:]
        elif own < named:
            super().name_range(request, own, named)
        super().give_back_all(request, for_good=for_good)


def free_ones(blocks: Table) -> int:
    """How many of the blocks are in the queue of free ones."""
    return sum(block is not None and block.holders == NOT_HELD for block in blocks)


def cut(found: list[Table], count: int, block_size: int) -> Found:
    """The first ``count`` blocks of each member, and their tokens."""
    return [table[:count] for table in found], count * block_size


class RingGroup(Group):
    """One block a request, whatever its length (``CircularBufferManager``)."""

    def blocks_needed(
        self, request: Request, tokens: int, computed: int, hits: Table, *, capped: bool
    ) -> int:
        """One, once."""
        return 0 if request.tables[self.index] else 1

    def adopt(self, request: Request, hits: Table, tokens: int) -> None:
        """Nothing is ever found."""

    def grow(self, request: Request, tokens: int) -> None:
        """The one block."""
        if not request.tables[self.index]:
            request.tables[self.index] = list(self.pool.take(1))


class WindowGroup(Group):
    """Blocks behind the window are given back (``SlidingWindowManager``)."""

    def __init__(
        self, index: int, group: GroupSettings, settings: EngineSettings, pool: BlockPool
    ) -> None:
        super().__init__(index, group, settings, pool)
        spec = group.spec
        assert isinstance(spec, SlidingWindowSpec)
        self.kept = spec.sliding_window - 1 + spec.extra_retained_tokens
        self.blocks_for_a_hit = cdiv(spec.sliding_window - 1, self.block_size)

    def quiet_steps(self, computed: int, in_flight: int) -> int:
        """Until a block is full, or falls out of the window."""
        size = self.block_size
        return min(-computed % size, (self.kept + in_flight - computed) % size)

    def skipped(self, computed: int) -> int:
        """What lies behind the window of the next token."""
        return max(0, computed - self.kept)

    def name_range(self, request: Request, first: int, last: int) -> None:
        """Only windows in which a later request can go on: prompt sent again, known junction.

        Source: ``reachable_block_mask`` with ``prefix_cache_retention_interval`` 0, the default.
        """
        for boundary in sorted({request.prompt - 1, request.junction}):
            end = boundary // self.alignment * self.alignment // self.block_size
            start, stop = max(first, end - self.blocks_for_a_hit), min(last, end)
            if start < stop:
                super().name_range(request, start, stop)
                first = stop

    def find(self, request: Request, longest: int, members: Sequence[Group]) -> Found:
        """From the right: the first run of blocks that makes a whole window."""
        run = 0
        size = self.block_size
        blocks: list[Table] = []
        for index in range(self.worth_looking(request, longest) - 1, -1, -1):
            here = self.found(request, index, members)
            if here is None:
                run, blocks = 0, []
                continue
            if run == 0 and (index + 1) * size % self.alignment:
                continue
            run += 1
            blocks.append(here)
            if run >= self.blocks_for_a_hit:
                nulls: Table = [None] * index  # of what lies before the run
                tables = [[*nulls, *found] for found in zip(*reversed(blocks), strict=True)]
                return tables, len(tables[0]) * size
        count = len(blocks)
        while count * size % self.alignment:
            count -= 1
        blocks = blocks[::-1][:count]
        return [[here[at] for here in blocks] for at in range(len(members))], count * size


class ChunkGroup(Group):
    """Blocks of chunks that are over are given back (``ChunkedLocalAttentionManager``)."""

    def __init__(
        self, index: int, group: GroupSettings, settings: EngineSettings, pool: BlockPool
    ) -> None:
        super().__init__(index, group, settings, pool)
        assert isinstance(group.spec, ChunkedLocalAttentionSpec)
        self.chunk = group.spec.attention_chunk_size

    def quiet_steps(self, computed: int, in_flight: int) -> int:
        """Until a block is full, or a chunk over."""
        return min(-computed % self.block_size, (in_flight - computed) % self.chunk)

    def skipped(self, computed: int) -> int:
        """All chunks before the next token's."""
        return computed // self.chunk * self.chunk

    def find(self, request: Request, longest: int, members: Sequence[Group]) -> Found:
        """Chunks that are over count as found; the next token's chunk is looked up."""
        first = longest // self.chunk * self.chunk // self.block_size
        tables: list[Table] = [[None] * first for _ in members]
        for index in range(first, self.worth_looking(request, longest)):
            found = self.found(request, index, members)
            if found is None:
                break
            for table, block in zip(tables, found, strict=True):
                table.append(block)
        return tables, len(tables[0]) * self.block_size
