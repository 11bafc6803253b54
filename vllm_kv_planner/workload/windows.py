"""Groups that let go of what lies behind a window, or in a chunk that is over.

Source: vLLM 0.33 ``v1/core/single_type_kv_cache_manager.py`` ``SlidingWindowManager`` and
``ChunkedLocalAttentionManager``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..kv_cache.math import cdiv
from ..kv_cache.specs import ChunkedLocalAttentionSpec, SlidingWindowSpec
from .blocks import BlockPool, Table
from .groups import Group, cut
from .settings import EngineSettings, GroupSettings
from .state import Request


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

    def find(
        self, request: Request, longest: int, members: Sequence[Group]
    ) -> tuple[list[Table], int]:
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
                return self.behind_nulls(blocks, index, members)
        tables, _ = self.behind_nulls(blocks, 0, members)
        count = len(tables[0])
        while count * size % self.alignment:
            count -= 1
        return cut(tables, count, size)

    def behind_nulls(
        self, blocks: list[Table], first: int, members: Sequence[Group]
    ) -> tuple[list[Table], int]:
        """The run, gathered from the right, at its place behind null blocks."""
        tables: list[Table] = [[None] * first for _ in members]
        for here in reversed(blocks):
            for table, block in zip(tables, here, strict=True):
                table.append(block)
        return tables, len(tables[0]) * self.block_size


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

    def find(
        self, request: Request, longest: int, members: Sequence[Group]
    ) -> tuple[list[Table], int]:
        """Chunks that are over count as found; the next token's chunk is looked up."""
        first = longest // self.chunk * self.chunk // self.block_size
        found: list[Table] = [[None] * first for _ in members]
        for index in range(first, self.worth_looking(request, longest)):
            blocks = self.found(request, index, members)
            if blocks is None:
                break
            for table, block in zip(found, blocks, strict=True):
                table.append(block)
        return found, len(found[0]) * self.block_size
