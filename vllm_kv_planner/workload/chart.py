"""The course of a workload as a chart of characters: blocks in use, requests running, waiting."""

from __future__ import annotations

from collections.abc import Sequence

from .outcome import Outcome, SeriesPoint

EIGHTHS = " ▁▂▃▄▅▆▇█"
WIDTH = 64
HEIGHT = 6


def chart(result: Outcome, *, width: int = WIDTH) -> list[str]:
    """Lines of the chart; none where nothing ran."""
    if not result.series or not result.usable_blocks:
        return []
    last = max(result.steps, result.series[-1].step + 1)
    width = min(width, last)
    columns = resampled(result.series, last, width)
    blocks = [point.used_blocks for point in columns]
    lines = [f"KV blocks in use, of {result.usable_blocks:,}"]
    for row in range(HEIGHT - 1, -1, -1):
        label = f"{100 * (row + 1) // HEIGHT} %" if row in (HEIGHT - 1, HEIGHT // 2 - 1) else ""
        cells = (level(8 * HEIGHT * used / result.usable_blocks - 8 * row) for used in blocks)
        bar = "".join(EIGHTHS[cell] for cell in cells)
        lines.append(f"{label:>11} │{bar}".rstrip())
    ends = f"{last:,} steps"
    lines.append(f"{'':>11} └{'─' * width}")
    lines.append(f"{'':>12} 0{ends:>{max(width - 1, len(ends) + 1)}}")
    for name, values in (
        ("running", [point.running for point in columns]),
        ("waiting", [point.waiting for point in columns]),
        ("preempted", [point.preemptions for point in columns]),
    ):
        most = max(values)
        if most or name == "running":
            lines.append(f"{name:>11}  {spark(values, most)}  most {most:,}")
    return lines


def resampled(series: Sequence[SeriesPoint], last: int, width: int) -> list[SeriesPoint]:
    """``width`` points over the steps before ``last``: peaks, and sums of preemptions.

    A point of the series holds until the next one begins.
    """
    columns: list[SeriesPoint] = []
    at = 0
    for column in range(width):
        start, end = last * column // width, last * (column + 1) // width
        while at + 1 < len(series) and series[at + 1].step <= start:
            at += 1
        stop = at
        while stop + 1 < len(series) and series[stop + 1].step < end:
            stop += 1
        seen = series[at : stop + 1]
        columns.append(
            seen[0]._replace(
                step=start,
                used_blocks=max(point.used_blocks for point in seen),
                running=max(point.running for point in seen),
                waiting=max(point.waiting for point in seen),
                preemptions=sum(point.preemptions for point in seen if point.step >= start),
            )
        )
    return columns


def spark(values: Sequence[int], most: int) -> str:
    """One line of bars; whatever is not 0 shows."""
    return "".join(EIGHTHS[level(8 * value / most) if most else 0] for value in values)


def level(eighths: float) -> int:
    """0 to 8; something small is 1, not 0."""
    if eighths <= 0:
        return 0
    return min(max(round(eighths), 1), 8)
