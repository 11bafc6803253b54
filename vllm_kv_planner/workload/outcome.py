"""What came out of running a workload, gathered in memory that does not grow with the trace."""

from __future__ import annotations

from typing import NamedTuple

from ..planning.types import Plan
from ..records import dataclass


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a whole number was spread, over steps (each counts once) or over requests.

    ``p5``, ``p50`` (the median) and ``p95`` are percentiles by nearest rank.
    """

    mean: float
    least: int
    p5: int
    p50: int
    p95: int
    most: int


class SeriesPoint(NamedTuple):
    """Some consecutive steps from ``step`` on, up to the next point's.

    ``preemptions`` is their sum; blocks held and requests are the largest numbers there were.
    """

    step: int
    used_blocks: int
    running: int
    waiting: int
    preemptions: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A workload that has run to its end. Counts are of requests, steps, blocks or tokens.

    Attributes:
        plan: The engine.
        scheduler: ``standalone`` (vLLM's rules restated) or ``vllm`` (vLLM's own scheduler).
        requests: Read from the trace, refused ones included.
        refused: Never ran, as their prompt leaves no room for an output in max_model_len.
        cut: Ended early, at max_model_len.
        steps: Steps in which something was scheduled.
        step_time: Seconds of one step, where it was given.
        concurrency: Clients of the closed loop; None: requests came by their arrival times.
        usable_blocks: Blocks without the null block.
        running: Requests that ran, over all steps.
        sustained: The same without ramp-up and drain: from the end of the first request to the
            last step with requests still to come or waiting; all steps where there is none between.
        running_loaded: The same over the steps that left something waiting: what the engine
            holds when it is full; None where nothing ever waited.
        waiting: Requests left waiting, over all steps.
        used_blocks: Blocks held, over all steps.
        step_tokens: Tokens computed, over all steps.
        waited: Requests that were not admitted in the first step that could have taken them.
        waited_for: All waiting, one request for one step counted as one, by what held back the
            first of those that waited, as ``limits``.
        wait_steps: Steps from arrival to the first admission, over all requests.
        preemptions: How often requests were preempted.
        preempted_requests: Requests preempted at least once.
        prompt_tokens: Of all requests that ran.
        output_tokens: Generated.
        computed_tokens: Scheduled, recomputation included.
        recomputed_tokens: Of these, computed a second time or more.
        cached_tokens: Found in the prefix cache at first admission.
        queried_tokens: Looked for there.
        limits: Steps that left something waiting, by what held it back: ``kv_blocks``,
            ``max_num_seqs``, ``max_num_batched_tokens``.
        limit: What kept more requests from running, in a sentence.
        series: The course of it, in at most 200 points.
        notes: What the reader should know.
    """

    plan: Plan
    scheduler: str
    requests: int
    refused: int
    cut: int
    steps: int
    step_time: float | None
    concurrency: int | None
    usable_blocks: int
    running: Spread
    sustained: Spread
    running_loaded: Spread | None
    waiting: Spread
    used_blocks: Spread
    step_tokens: Spread
    waited: int
    waited_for: dict[str, int]
    wait_steps: Spread
    preemptions: int
    preempted_requests: int
    prompt_tokens: int
    output_tokens: int
    computed_tokens: int
    recomputed_tokens: int
    cached_tokens: int
    queried_tokens: int
    limits: dict[str, int]
    limit: str
    series: tuple[SeriesPoint, ...]
    notes: tuple[str, ...]

    @property
    def prefix_hit_rate(self) -> float | None:
        """Share of the prompts' tokens found in the prefix cache; None where nobody looked."""
        return self.cached_tokens / self.queried_tokens if self.queried_tokens else None

    @property
    def seconds(self) -> float | None:
        """Steps times the time of one; None where that was not given."""
        return None if self.step_time is None else self.steps * self.step_time


def notes_of(plan: Plan) -> tuple[str, ...]:
    """What the figures leave out."""
    notes = ["every request generates exactly its output tokens; time is counted in engine steps"]
    if plan.engine.data_parallel_size > 1:
        notes.append(
            f"one of {plan.engine.data_parallel_size} data-parallel engines; each has its own "
            "KV cache and its share of the requests"
        )
    return tuple(notes)


EXACT = 4096
"""Values below it are counted one by one, larger ones in classes."""
PER_DOUBLING = 128
"""Classes from one power of two to the next: a larger value is off by less than 1 %."""
MOST_POINTS = 200


class Tally:
    """A histogram of whole numbers from 0 on; extremes and mean are exact."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self._least = self._most = 0
        self._classes: dict[int, int] = {}

    def add(self, value: int, times: int = 1) -> None:
        """``value`` was seen ``times`` times."""
        if not times:
            return
        if not self.count or value < self._least:
            self._least = value
        self._most = max(self._most, value)
        self.count += times
        self.total += value * times
        if value >= EXACT:
            shift = value.bit_length() - PER_DOUBLING.bit_length()
            value = value >> shift << shift
        self._classes[value] = self._classes.get(value, 0) + times

    def spread(self) -> Spread:
        """How the values lie; all 0 where there are none."""
        if not self.count:
            return Spread(mean=0.0, least=0, p5=0, p50=0, p95=0, most=0)
        ordered = sorted(self._classes.items())
        return Spread(
            mean=self.total / self.count,
            least=self._least,
            p5=self._percentile(ordered, 5),
            p50=self._percentile(ordered, 50),
            p95=self._percentile(ordered, 95),
            most=self._most,
        )

    def _percentile(self, ordered: list[tuple[int, int]], percent: int) -> int:
        """The smallest value with at least ``percent`` of all at or below it (nearest rank)."""
        below = 0
        for value, times in ordered:
            below += times
            if 100 * below >= percent * self.count:
                return max(value, self._least)
        return self._most


class SeriesTally:
    """The course of a run in at most ``MOST_POINTS`` points, each some steps wide.

    When they are full, two and two become one and every later point is twice as wide.
    """

    def __init__(self) -> None:
        self._points: list[SeriesPoint] = []
        self._width = 1
        self._end = 0  # of the last point, in steps

    def add(
        self,
        step: int,
        used_blocks: int,
        running: int,
        waiting: int,
        preemptions: int = 0,
        steps: int = 1,
    ) -> None:
        """What one step, or a run of alike steps that begins there, looked like."""
        end = step + steps
        if step < self._end:
            last = self._points[-1]
            if used_blocks > last.used_blocks or running > last.running or waiting > last.waiting:
                seen = SeriesPoint(last.step, used_blocks, running, waiting, preemptions)
                self._points[-1] = _joined(last, seen)
            elif preemptions:
                self._points[-1] = last._replace(preemptions=last.preemptions + preemptions)
            step, preemptions = self._end, 0
        while step < end:
            start = step - step % self._width
            self._points.append(SeriesPoint(start, used_blocks, running, waiting, preemptions))
            step = self._end = start + self._width
            preemptions = 0
            while len(self._points) > MOST_POINTS:
                self._halve()
                step = self._end = self._points[-1].step + self._width

    def points(self) -> tuple[SeriesPoint, ...]:
        """The points so far, in the order of their steps."""
        return tuple(self._points)

    def _halve(self) -> None:
        self._width *= 2
        halved: list[SeriesPoint] = []
        for point in self._points:
            start = point.step - point.step % self._width
            moved = point._replace(step=start)
            if halved and halved[-1].step == start:
                halved[-1] = _joined(halved[-1], moved)
            else:
                halved.append(moved)
        self._points = halved


def _joined(before: SeriesPoint, after: SeriesPoint) -> SeriesPoint:
    return SeriesPoint(
        before.step,
        max(before.used_blocks, after.used_blocks),
        max(before.running, after.running),
        max(before.waiting, after.waiting),
        before.preemptions + after.preemptions,
    )
