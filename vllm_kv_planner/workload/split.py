"""Where a prefill has to stop so that recurrent states can be kept.

Source: vLLM 0.33 ``Scheduler._mamba_block_aligned_split`` (``v1/core/sched/scheduler.py``).
"""

from __future__ import annotations

from ..kv_cache.specs import MambaSpec
from ..records import dataclass
from .settings import EngineSettings
from .state import Request
from .states import can_checkpoint, checkpoint_position


@dataclass(frozen=True, kw_only=True)
class StateSplit:
    """Limits of a prefill's step.

    Attributes:
        block_size: Tokens of a block.
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
        exported = self.exports and end >= prefill_end
        exported = exported and can_checkpoint(
            start, end, checkpoint_position(prefill_end, self.common), self.names, size, self.grid
        )
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
