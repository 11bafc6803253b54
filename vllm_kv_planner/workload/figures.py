"""What a workload did: the answer in sentences, every figure of it, and its course as a chart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .outcome import Outcome, SeriesPoint, Spread

LIMITS = {
    "kv_blocks": "KV blocks",
    "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "prefill_schedule_interval": "prefill_schedule_interval",
    "none": "a step in flight",
}
"""What people read for the names of ``Outcome.limits``."""


SPREADS = (
    ("sustained", "Running at once", "steps between ramp-up and drain"),
    ("running", "  all in all", "steps"),
    ("running_loaded", "  under load", "steps that leave some waiting"),
    ("waiting", "Waiting", "steps"),
    ("used_blocks", "Blocks in use", "steps"),
    ("step_tokens", "Tokens of a step", "steps"),
)
"""Spreads of an ``Outcome``: its name, what people read, and what they are counted over."""


class Figure(NamedTuple):
    """One figure: programs read ``name`` and ``value``, people ``label``, ``text``, ``meaning``."""

    name: str
    label: str
    value: str | float | None
    text: str
    meaning: str


def headline(result: Outcome) -> list[str]:
    """The answer in two to four sentences, numbers first."""
    ran = result.requests - result.refused
    if not result.requests:
        return ["No request ran: there was none."]
    if not ran:
        return ["No request ran: no prompt leaves room for an answer in max_model_len."]
    sentences = [how_many(result)]
    waited = f"{share(result.waited, ran)} of the requests wait"
    if result.waited:
        times = result.wait_steps
        half = f"half of all up to {duration(times.p50, result)}, " if times.p50 else ""
        waited += f" ({half}95 % of all up to {duration(times.p95, result)}, "
        waited += f"the longest {duration(times.most, result)})"
    preempted = f"{result.preemptions:,} preemption{'' if result.preemptions == 1 else 's'}"
    if result.preemptions:
        again = share(result.recomputed_tokens, result.computed_tokens)
        preempted += (
            f", of {result.preempted_requests:,} requests; {again} of the work is done again"
        )
    sentences.append(f"{waited}; {preempted}.")
    if result.cached_tokens:
        sentences.append(
            f"{share(result.cached_tokens, result.queried_tokens)} of the prompts' tokens "
            "come from the prefix cache."
        )
    return sentences


def how_many(result: Outcome) -> str:
    """How many run together, of how many that may, and what keeps it there."""
    asked = f"max_num_seqs {result.plan.engine.max_num_seqs:,}"
    if result.concurrency is not None:
        asked = f"{result.concurrency:,} client{'s' * (result.concurrency > 1)}, {asked}"
    verb = "runs" if result.sustained.p95 == 1 else "run"
    said = f"{between(result.sustained)} of your requests {verb} at once ({asked}); "
    full = sum(result.limits.values())
    if not full:
        return f"{said}none is left waiting, and there are never more than {result.running.most:,}."
    if 2 * full >= result.steps:
        return f"{said}limited by {causes(result.limits)}."
    waiting = f"{share(full, result.steps)} of the steps leave some waiting"
    return f"{said}{waiting}, for {causes(result.limits)}."


def between(values: Spread) -> str:
    """``70 to 80``: the 5th and the 95th percentile; one number where they are the same."""
    low, high = values.p5, values.p95
    return f"{low:,} to {high:,}" if low < high else f"{low:,}"


def causes(counts: dict[str, int]) -> str:
    """What held requests back, the most frequent first, with shares where several did."""
    total = sum(counts.values())
    words = [
        LIMITS.get(name, name) + (f" ({share(count, total)})" if count < total else "")
        for name, count in sorted(counts.items(), key=lambda each: -each[1])
        if count
    ]
    return ", ".join(words)


def share(part: float, whole: float) -> str:
    """``12 %``, ``0.4 %``; never 0 % or 100 % where it is not."""
    if not whole:
        return "0 %"
    percent = 100 * part / whole
    text = f"{percent:.0f}" if percent in (0, 100) or 10 <= percent < 99.5 else f"{percent:.1f}"
    if part and text == "0.0":
        return "under 0.1 %"
    return "over 99.9 %" if part < whole and text == "100.0" else f"{text} %"


def duration(steps: float, result: Outcome) -> str:
    """Steps, or seconds where the time of a step is known."""
    if result.step_time is not None:
        return f"{steps * result.step_time:,.2f} s"
    return "1 step" if steps == 1 else f"{steps:,.0f} steps"


def figures(result: Outcome) -> Iterator[Figure]:
    """Every figure but the course of it."""
    yield from engine_figures(result)
    yield from request_figures(result)
    steps = f"{result.steps:,}"
    if result.step_time is not None:
        steps += f" ({duration(result.steps, result)})"
    yield Figure("steps", "Engine steps", result.steps, steps, "in which something was scheduled")
    for name, label, over in SPREADS:
        yield from spread(name, label, getattr(result, name), over)
    yield from waiting_figures(result)
    yield Figure("limit", "", result.limit, "", "")


def waiting_figures(result: Outcome) -> Iterator[Figure]:
    """Who waits and for what, what is done twice, what is found."""
    ran = result.requests - result.refused
    waited = share(result.waited, ran)
    yield Figure("waited", "Requests that wait", result.waited, waited, "a step or more")
    yield from spread("wait_steps", "  steps", result.wait_steps, "requests")
    count, preempted = f"{result.preemptions:,}", "no request is preempted"
    if result.preemptions:
        preempted = f"of {result.preempted_requests:,} requests, which compute everything again"
    yield Figure("preemptions", "Preemptions", result.preemptions, count, preempted)
    again = result.recomputed_tokens
    meaning = "of all scheduled tokens"
    text = share(again, result.computed_tokens)
    yield Figure("recomputed_tokens", "Recomputed", again, text, meaning)
    rate = result.prefix_hit_rate
    found = "-" if rate is None else share(result.cached_tokens, result.queried_tokens)
    yield Figure("prefix_hit_rate", "Prefix cache hits", rate, found, "of the prompts' tokens")


def engine_figures(result: Outcome) -> Iterator[Figure]:
    """What ran."""
    plan = result.plan
    who = "vLLM's own scheduler" if result.scheduler == "vllm" else "vLLM's rules restated"
    yield Figure("model", "Model", plan.model.id, plan.model.id, plan.model.architecture)
    gpus = f"{plan.gpu.num_gpus} x {plan.gpu.name}"
    yield Figure("gpu", "GPU", plan.gpu.name, gpus, "")
    version = f"vLLM {plan.planner.vllm_version}"
    yield Figure("scheduler", "Scheduler", result.scheduler, result.scheduler, f"{who}, {version}")
    tokens = f"GPU KV cache: {plan.kv_cache.kv_cache_size_tokens:,} tokens"
    blocks = result.usable_blocks
    yield Figure("usable_blocks", "KV blocks", blocks, f"{blocks:,}", tokens)
    for name in ("max_model_len", "max_num_seqs", "max_num_batched_tokens"):
        value = getattr(plan.engine, name)
        yield Figure(name, name, value, f"{value:,}", "")


def request_figures(result: Outcome) -> Iterator[Figure]:
    """What it was given."""
    count = f"{result.requests:,}"
    yield Figure("requests", "Requests", result.requests, count, "read")
    if result.refused:
        why = "the prompt fills max_model_len, or exceeds it"
        yield Figure("refused", "  refused", result.refused, f"{result.refused:,}", why)
    if result.cut:
        yield Figure("cut", "  cut short", result.cut, f"{result.cut:,}", "at max_model_len")
    for name, label in (("prompt_tokens", "Prompt tokens"), ("output_tokens", "Output tokens")):
        value = getattr(result, name)
        mean = value / max(1, result.requests - result.refused)
        yield Figure(name, label, value, f"{value:,}", f"{mean:,.1f} a request")


def spread(name: str, label: str, values: Spread | None, over: str) -> Iterator[Figure]:
    """One line for people, six figures for programs; all but the mean have no text."""
    if values is None:
        return
    text = between(values)
    usual = f"5 to 95 % of the {over}; mean {values.mean:,.1f}, most {values.most:,}"
    yield Figure(f"{name}.mean", label, values.mean, text, usual)
    for part in ("least", "p5", "p50", "p95", "most"):
        yield Figure(f"{name}.{part}", "", getattr(values, part), "", "")


def remarks(result: Outcome) -> dict[str, None]:
    """What the plan and the run have to say beside their figures, each once."""
    return dict.fromkeys((*result.plan.notes, *result.notes))


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
