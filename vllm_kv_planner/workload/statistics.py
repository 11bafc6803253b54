"""What a run was like, in running sums and histograms: memory does not grow with the trace."""

from __future__ import annotations

from collections import Counter

from ..planning.types import Plan
from .feed import Counts
from .outcome import SeriesTally, Spread, Tally
from .queues import Request, Step
from .result import WorkloadResult
from .types import EngineSettings

CAUSES = {
    "blocks": "kv_blocks",
    "slots": "max_num_seqs",
    "tokens": "max_num_batched_tokens",
    "interval": "prefill_schedule_interval",
    "": "none",
}
"""What kept the first waiting request out, by the engine's word for it."""

TOTALS = (
    *("preemptions", "preempted_requests", "prompt_tokens", "output_tokens"),
    *("recomputed_tokens", "cached_tokens", "queried_tokens"),
)
"""Figures of ``Outcome`` that are plain sums over the run."""
RARELY = 0.01
"""Share of the steps below which waiting is not worth a limit."""


def limit_sentence(
    settings: EngineSettings, limits: dict[str, int], steps: int, running: Spread
) -> str:
    """What would let more requests run."""
    if sum(limits.values()) <= RARELY * steps:
        return f"nothing: at most {running.most:,} requests were there at once, and all of them ran"
    cause = max(limits, key=lambda name: limits[name])
    share = f"in {100 * limits[cause] / steps:.0f} % of the steps the next request waited for"
    interval = settings.prefill_schedule_interval
    said = {
        "kv_blocks": f"KV cache: {share} blocks ({settings.num_gpu_blocks - 1:,} in all)",
        "max_num_seqs": f"max_num_seqs {settings.max_num_seqs:,}: {share} a sequence slot",
        "prefill_schedule_interval": f"prefill_schedule_interval {interval}: {share} its turn",
    }
    room = f"max_num_batched_tokens {settings.token_budget:,}: {share} room in a step"
    return said.get(cause, room)


class Statistics:
    """Collects a run, step by step.

    Attributes:
        steps: Steps in which something was computed.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.steps = 0
        self._running, self._waiting, self._used = Tally(), Tally(), Tally()
        self._tokens, self._wait, self._loaded, self._sustained = Tally(), Tally(), Tally(), Tally()
        self._series = SeriesTally()
        self._limits: Counter[str] = Counter()
        self._waited_for: Counter[str] = Counter()
        self._waited = 0
        self._has_started = False
        self._totals = dict.fromkeys(TOTALS, 0)

    def add_step(self, step: Step, *, is_fed: bool, clock: int) -> None:
        """A step was scheduled at the time ``clock``; ``is_fed``: more requests are to come."""
        for request, found in step.admitted:
            self._add_admitted(request, found, clock)
        if step.preempted:
            self._totals["preemptions"] += len(step.preempted)
            first = sum(each.preemptions == 1 for each in step.preempted)
            self._totals["preempted_requests"] += first
        if step.tokens:
            self.add_alike(
                1,
                (step.running, step.waiting, step.used_blocks, step.tokens),
                step.limit,
                is_fed=is_fed,
                preemptions=len(step.preempted),
            )

    def add_alike(
        self,
        steps: int,
        seen: tuple[int, int, int, int],
        limit: str,
        *,
        is_fed: bool,
        preemptions: int = 0,
    ) -> None:
        """So many alike steps; ``seen``: requests running, waiting, blocks, tokens."""
        running, waiting, used, tokens = seen
        self._running.add(running, steps)
        self._waiting.add(waiting, steps)
        self._used.add(used, steps)
        self._tokens.add(tokens, steps)
        if self._has_started and (is_fed or waiting):
            self._sustained.add(running, steps)
        if waiting:
            self._loaded.add(running, steps)
            self._limits[limit] += steps
            self._waited_for[limit] += steps * waiting
        self._series.add(self.steps, used, running, waiting, preemptions, steps)
        self.steps += steps

    def add_finished(self, finished: list[Request]) -> None:
        """Requests have ended."""
        self._has_started = self._has_started or bool(finished)
        self._totals["output_tokens"] += sum(each.end - each.prompt for each in finished)

    def _add_admitted(self, request: Request, found: int, clock: int) -> None:
        totals = self._totals
        if request.preemptions:
            totals["recomputed_tokens"] += max(request.lost - found, 0)
            return
        wait = clock - request.joined
        self._wait.add(wait)
        self._waited += wait > 0
        totals["prompt_tokens"] += request.prompt
        if self.settings.enable_prefix_caching:
            totals["queried_tokens"] += request.prompt
            totals["cached_tokens"] += found

    def result(
        self,
        plan: Plan,
        counts: Counts,
        *,
        scheduler: str,
        concurrency: int | None,
        step_time: float | None,
        notes: tuple[str, ...],
    ) -> WorkloadResult:
        """The run is over."""
        limits = {CAUSES[name]: steps for name, steps in sorted(self._limits.items())}
        sustained = self._sustained if self._sustained.count else self._running
        waited_for = {CAUSES[name]: count for name, count in sorted(self._waited_for.items())}
        return WorkloadResult(
            plan=plan,
            scheduler=scheduler,
            requests=counts.requests,
            refused=counts.refused,
            cut=counts.cut,
            steps=self.steps,
            step_time=step_time,
            concurrency=concurrency,
            usable_blocks=self.settings.num_gpu_blocks - 1,
            running=self._running.spread(),
            sustained=sustained.spread(),
            running_loaded=self._loaded.spread() if self._loaded.count else None,
            waiting=self._waiting.spread(),
            used_blocks=self._used.spread(),
            step_tokens=self._tokens.spread(),
            waited=self._waited,
            waited_for=waited_for,
            wait_steps=self._wait.spread(),
            computed_tokens=self._tokens.total,
            **self._totals,
            limits=limits,
            limit=limit_sentence(self.settings, limits, self.steps, self._running.spread()),
            series=self._series.points(),
            notes=notes,
        )
