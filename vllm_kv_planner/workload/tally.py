"""Statistics of as many steps as there are, in memory that does not grow with them."""

from __future__ import annotations

from .outcome import SeriesPoint, Spread

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
