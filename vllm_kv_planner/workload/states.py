"""Groups of recurrent states: Mamba, linear attention, short convolutions.

Source: vLLM 0.33 ``MambaManager`` (``v1/core/single_type_kv_cache_manager.py``), and
``get_mamba_prefill_checkpoint_position``, ``is_mamba_prefill_checkpoint_valid``
(``v1/kv_cache_interface.py``).

Without prefix caching a request has one block. With it (mode ``align``) a block holds the state
after the block's last token: the running state is in the last block, those in between stay empty.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..kv_cache.spec import cdiv
from ..kv_cache.specs import MambaSpec
from ..records import dataclass
from .blocks import BlockPool, Table, evict
from .groups import Found, Group, free_ones
from .queues import Request, StateOf
from .types import EngineSettings, GroupSettings


def checkpoint_position(tokens: int, block_size: int) -> int:
    """Where a prefill of so many tokens leaves a state that others can go on from."""
    return max((tokens - 1) // block_size * block_size, 0)


def can_checkpoint(
    start: int, end: int, position: int, names: int, block_size: int, grid: int | None
) -> bool:
    """Whether one step from ``start`` up to ``end`` can leave a state of ``position`` tokens.

    ``names`` are the tokens of one block name; ``grid`` is what the kernel can export states on,
    None where it cannot.
    """
    if grid is None:
        return False
    return (
        start % names == 0
        and cdiv(end, block_size) - 2 > (start - 1) // block_size
        and start + names <= position
        and start < position < end
        and (position - start) % grid == 0
    )


class StateGroup(Group):
    """States kept at block boundaries, mode ``align``."""

    def __init__(
        self, index: int, group: GroupSettings, settings: EngineSettings, pool: BlockPool
    ) -> None:
        super().__init__(index, group, settings, pool)
        spec = group.spec
        assert isinstance(spec, MambaSpec)
        self.grid = spec.prefill_checkpoint_alignment
        self.exports = spec.num_prefill_checkpoint_blocks > 0
        self.too_many = settings.num_gpu_blocks + 1
        self.named_this_step: set[int] = set()

    def new_step(self) -> None:
        """States made in a step cannot be read in the same step."""
        self.named_this_step.clear()

    def quiet_steps(self, computed: int, in_flight: int) -> int:
        """Until a block is full, or the state before it can go."""
        size = self.block_size
        return min(-computed % size, (in_flight + 1 - computed) % size)

    def state(self, request: Request) -> StateOf:
        """The request's states here."""
        state = request.states[self.index]
        if state is None:
            state = request.states[self.index] = StateOf()
        return state

    def skipped(self, computed: int) -> int:
        """Only the last token's state is needed."""
        return computed - 1

    def blocks_needed(
        self, request: Request, tokens: int, computed: int, hits: Table, *, capped: bool
    ) -> int:
        """One for the running state, one for a checkpoint, and what was found but is free."""
        found = hits[-1] if hits else None
        if found is not None and found.key in self.named_this_step:
            return self.too_many  # written in this very step: wait for the next one
        position = self.checkpoint_of(request, computed, tokens)
        if not capped:
            at = cdiv(tokens, self.block_size) - 2
            self.state(request).checkpoint = (position, at) if position else None
        new = cdiv(tokens, self.block_size) - len(hits) - len(request.tables[self.index])
        if new > 0:
            new = min(new, 1 + (position > 0))
        return new + free_ones(hits)

    def checkpoint_of(self, request: Request, start: int, end: int) -> int:
        """Tokens of the state that this step leaves on its way, 0 for none."""
        at = cdiv(end, self.block_size) - 2
        if not self.exports or end < request.prefill_end or at < 0:
            return 0
        position = checkpoint_position(end, self.alignment)
        if not can_checkpoint(
            start, end, position, self.hash_block_size, self.block_size, self.grid
        ):
            return 0
        table = request.tables[self.index]
        return position if at >= len(table) or table[at] is None else 0

    def grow(self, request: Request, tokens: int) -> None:
        """A block for the running state, behind null blocks for those that are not kept."""
        table, state = request.tables[self.index], self.state(request)
        required = cdiv(tokens, self.block_size)
        exported = state.checkpoint is not None
        if required <= len(table) and not exported:
            state.has_blocks = True
            return
        if state.has_blocks or table:
            state.last = len(table) - 1
        skipped = required - 1
        if len(table) < skipped:
            table += [None] * (skipped - exported - len(table))
        table += self.pool.take(max(required - len(table), 0))
        state.has_blocks = True

    def give_back_skipped(self, request: Request, processed: int) -> None:
        """As everywhere, and the state that the running one was made from."""
        super().give_back_skipped(request, processed)
        state, table = self.state(request), request.tables[self.index]
        last = state.last
        if last is not None and last < cdiv(processed, self.block_size) - 1:
            block = table[last]
            if block is not None:
                self.pool.give_back([block])
                table[last] = None

    def give_back_range(self, request: Request, last: int) -> None:
        """Null blocks lie in between, so go on below them, down to where it was done before."""
        state, table = self.state(request), request.tables[self.index]
        if state.retired >= last:
            return
        freed = [table[at] for at in range(last - 1, state.retired - 1, -1)]
        self.pool.give_back(freed)
        table[state.retired : last] = [None] * (last - state.retired)
        state.retired = last

    def give_back_all(self, request: Request, *, for_good: bool) -> None:
        """And drop what was known of its states."""
        super().give_back_all(request, for_good=for_good)
        request.states[self.index] = None

    def name(self, request: Request, tokens: int) -> None:
        """Name the kept states; nobody else may read them in this step."""
        super().name(request, tokens)
        state = self.state(request)
        if state.checkpoint is not None:
            self.name_checkpoint(request, *state.checkpoint)

    def name_range(self, request: Request, first: int, last: int) -> None:
        """Only where a later request can go on: the prompt sent again, a known junction."""
        table = request.tables[self.index]
        for boundary in {request.prompt - 1, request.junction}:
            at = boundary // self.alignment * self.alignment // self.block_size - 1
            if first <= at < last and table[at] is not None:
                self.name_one(request, at, (at + 1) * self.keys_per_block - 1)

    def name_one(self, request: Request, at: int, key_index: int) -> None:
        """Name the block at this position."""
        key = request.keys.at(key_index)
        self.pool.name([request.tables[self.index][at]], [key], self.names)
        self.named_this_step.add(key)

    def name_checkpoint(self, request: Request, position: int, at: int) -> None:
        """Name a state left on the way, if others can go on from it; else it has no name."""
        block = request.tables[self.index][at]
        if block is None:
            return
        wanted = (checkpoint_position(request.prompt, self.alignment), request.junction)
        if position not in wanted:
            evict(block)
            return
        key_index = position // self.hash_block_size - 1
        if block.key != request.keys.at(key_index):
            self.name_one(request, at, key_index)

    def find(self, request: Request, longest: int, members: Sequence[Group]) -> Found:
        """The longest prefix whose last state is kept."""
        size = self.block_size
        for index in range(self.worth_looking(request, longest) - 1, -1, -1):
            if (index + 1) * size % self.alignment:
                continue
            blocks = self.found(request, index, members)
            if blocks is not None:
                return [[*[None] * index, block] for block in blocks], (index + 1) * size
        return [[] for _ in members], 0


@dataclass(frozen=True, kw_only=True)
class StateSplit:
    """Where a prefill has to stop so that recurrent states can be kept.

    Source: vLLM 0.33 ``Scheduler._mamba_block_aligned_split`` (``v1/core/sched/scheduler.py``).

    Attributes:
        common: The scheduler's block size.
        names: Tokens of one block name.
        most: Tokens that one prompt may have in a step.
        exports: Whether states can be left in the middle of a step.
        grid: Token grid of such a state.
    """

    block_size: int
    common: int
    names: int
    most: int
    exports: bool
    grid: int | None

    @classmethod
    def of(cls, settings: EngineSettings) -> StateSplit | None:
        """The limits; None where no states are cached."""
        specs = [group.spec for group in settings.groups if isinstance(group.spec, MambaSpec)]
        if not specs or not settings.enable_prefix_caching:
            return None
        cached = [each.block_size for each in settings.groups if each.spec.prefix_cacheable]
        threshold = settings.long_prefill_token_threshold
        most = settings.token_budget
        return cls(
            block_size=min(cached),
            common=settings.scheduler_block_size,
            names=settings.hash_block_size,
            most=min(most, threshold) if threshold else most,
            exports=all(spec.num_prefill_checkpoint_blocks > 0 for spec in specs),
            grid=specs[0].prefill_checkpoint_alignment,
        )

    def tokens(self, request: Request, start: int, tokens: int) -> int:
        """Of ``tokens`` to compute from ``start`` on, how many this step may take."""
        prefill_end = request.prefill_end
        if start >= prefill_end:
            return tokens
        size = self.block_size
        end = start + tokens
        last_kept = checkpoint_position(request.known, size)
        position = checkpoint_position(prefill_end, self.common)
        exported = self.exports and end >= prefill_end
        exported = exported and can_checkpoint(start, end, position, self.names, size, self.grid)
        if exported:
            last_kept = 0
        if end < prefill_end:
            aligned = end // size * size
            if aligned > start or size <= self.most:
                end = aligned
        junction = request.junction
        stops = (
            0 if exported or start % size == 0 else (start // size + 1) * size,
            last_kept,
            start + (junction - start) // size * size if start < junction < end else 0,
        )
        end = min((stop for stop in stops if start < stop < end), default=end)
        return max(end - start, 0)
