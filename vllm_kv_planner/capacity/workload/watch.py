"""Workloads that would never end, in vLLM as here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import InputError

if TYPE_CHECKING:
    from .engine import Engine
    from .step import Step

STUCK_AFTER = 100
"""Turns in a row that give nothing to do, before it is certain that none ever will."""


class Watch:
    """Looks at every turn of an engine."""

    def __init__(self) -> None:
        self.last_end = 0
        """``Engine.calls`` when a request last ended, or there was none."""
        self._stuck = 0  # turns in a row that gave nothing to do

    def check(self, engine: Engine, step: Step | None) -> None:
        """Refuse to go on for ever.

        Raises:
            InputError: Nothing can be scheduled any more, or nothing ever ends.
        """
        self._check_ends(engine)
        is_stuck = step is not None and not step.tokens
        has_work = bool(engine.waiting or engine.running)
        if not is_stuck or not has_work or any(each.tokens for each in engine.in_flight):
            self._stuck = 0
            return
        self._stuck += 1
        if self._stuck > STUCK_AFTER:
            request = engine.waiting.first() if engine.waiting else engine.running[0]
            raise InputError(
                f"request {request.number}: its {request.known:,} tokens cannot be scheduled "
                f"within {engine.cache.total:,} blocks and {engine.settings.token_budget:,} tokens "
                "a step: vLLM would wait for ever"
            )

    def _check_ends(self, engine: Engine) -> None:
        """Refuse requests that begin again and again, each throwing the other or itself out.

        The first running request gets its tokens in every step it may run in, so that it ends
        within ``max_model_len`` of them; asynchronous turns may be empty in between.
        """
        if not (engine.running or engine.waiting):
            self.last_end = engine.calls
            return
        settings = engine.settings
        every = settings.prefill_schedule_interval * settings.pipeline_parallel_size
        if engine.calls - self.last_end > STUCK_AFTER + 4 * settings.max_model_len * every:
            request = engine.running[0] if engine.running else engine.waiting.first()
            raise InputError(
                f"request {request.number}: does not end within {engine.cache.total:,} blocks, it "
                "loses them and begins again: vLLM would go on for ever"
            )
