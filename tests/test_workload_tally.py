"""Statistics in flat memory, against Python's own over all values."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from vllm_kv_planner.workload.outcome import MOST_POINTS, SeriesPoint, SeriesTally, Tally


def nearest_rank(values: list[int], percent: int) -> int:
    return sorted(values)[math.ceil(percent * len(values) / 100) - 1]


@given(seen=st.lists(st.tuples(st.integers(0, 4095), st.integers(1, 9)), min_size=1))
def test_small_values_are_counted_exactly(seen: list[tuple[int, int]]) -> None:
    tally = Tally()
    for value, times in seen:
        tally.add(value, times)
    values = [value for value, times in seen for _ in range(times)]
    spread = tally.spread()
    assert (spread.least, spread.most) == (min(values), max(values))
    assert math.isclose(spread.mean, sum(values) / len(values))
    assert (spread.p5, spread.p50, spread.p95) == tuple(
        nearest_rank(values, percent) for percent in (5, 50, 95)
    )


@given(values=st.lists(st.integers(0, 10**12), min_size=1))
def test_large_values_are_off_by_less_than_one_percent(values: list[int]) -> None:
    tally = Tally()
    for value in values:
        tally.add(value)
    spread = tally.spread()
    assert (spread.least, spread.most) == (min(values), max(values))
    for percent, found in ((5, spread.p5), (50, spread.p50), (95, spread.p95)):
        exact = nearest_rank(values, percent)
        assert 0.99 * exact <= found <= exact


def test_nothing_seen() -> None:
    assert Tally().spread().most == 0


@given(steps=st.lists(st.integers(1, 50), min_size=1, max_size=300))
def test_a_short_series_is_kept_as_it_is(steps: list[int]) -> None:
    series, step, expected = SeriesTally(), 0, []
    for width in steps:
        series.add(step, width, step % 7, 3, 1)
        expected.append(SeriesPoint(step, width, step % 7, 3, 1))
        step += width
    assert list(series.points()) == expected


def test_a_long_series_keeps_peaks_and_sums() -> None:
    series = SeriesTally()
    for step in range(100_000):
        series.add(step, 5 + (step == 77_777), step % 3, 1, step % 10 == 0)
    points = series.points()
    assert MOST_POINTS / 2 <= len(points) <= MOST_POINTS
    # 100,000 steps over at most 200 points: 512 steps each
    assert [point.step for point in points] == list(range(0, 100_000, 512))
    assert sum(point.preemptions for point in points) == 10_000
    assert [point.step for point in points if point.used_blocks == 6] == [77_312]
    assert {point.running for point in points} == {2}
