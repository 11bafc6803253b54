"""What a workload did: the answer in sentences, and every figure of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ..errors import printable

if TYPE_CHECKING:
    from ..capacity.workload.result import Spread, WorkloadResult

LIMITS = {
    "kv_blocks": "KV blocks",
    "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens",
}


class Figure(NamedTuple):
    """One figure.

    Attributes:
        name: Key of programs.
        label: What people read.
        value: As it is.
        text: As people read it.
        meaning: In some words.
    """

    name: str
    label: str
    value: str | float | None
    text: str
    meaning: str


def headline(result: WorkloadResult) -> list[str]:
    """The answer in two to four sentences, numbers first."""
    ran = result.requests - result.refused
    if not ran:
        return ["No request ran: no prompt leaves room for an answer in max_model_len."]
    sentences = [how_many(result)]
    waited = f"{share(result.waited, ran)} of the requests wait"
    if result.waited:
        half, most = result.wait_steps.p50, result.wait_steps.p95
        waited += f" (half of all up to {duration(half, result)}, 95 % up to "
        waited += f"{duration(most, result)})"
    thrown = f"{result.preemptions:,} preemption{'' if result.preemptions == 1 else 's'}"
    if result.preemptions:
        again = share(result.recomputed_tokens, result.computed_tokens)
        thrown += f", of {result.preempted_requests:,} requests; {again} of the work is done again"
    sentences.append(f"{waited}; {thrown}.")
    if result.cached_tokens:
        sentences.append(
            f"{share(result.cached_tokens, result.queried_tokens)} of the prompts' tokens "
            "come from the prefix cache."
        )
    return sentences


def how_many(result: WorkloadResult) -> str:
    """How many run together, of how many that may, and what keeps it there."""
    asked = f"max_num_seqs {result.plan.engine.max_num_seqs:,}"
    if result.concurrency is not None:
        asked = f"{result.concurrency:,} clients, {asked}"
    loaded = result.running_loaded
    if loaded is None:
        most = result.running.most
        many = "1 request runs" if most == 1 else f"{most:,} requests run"
        return f"At most {many} at once, and none is left waiting ({asked})."
    if loaded.p5 == loaded.p95:
        many = f"{loaded.p50:,} of your requests run" if loaded.p50 != 1 else "1 request runs"
    else:
        many = f"{loaded.p5:,} to {loaded.p95:,} of your requests run"
    return f"{many} at once ({asked}); limited by {limited_by(result)}."


def limited_by(result: WorkloadResult) -> str:
    """What held requests back, the most frequent first, with shares where several did."""
    total = sum(result.limits.values())
    ordered = sorted(result.limits.items(), key=lambda each: -each[1])
    words = [
        LIMITS.get(name, name) + (f" ({share(count, total)})" if count < total else "")
        for name, count in ordered
        if count
    ]
    return ", ".join(words) or "nothing that lasts"


def share(part: float, whole: float) -> str:
    """``12 %``, ``0.4 %``; never 0 % or 100 % where it is not."""
    if not whole:
        return "0 %"
    percent = 100 * part / whole
    text = f"{percent:.0f}" if percent in (0, 100) or 10 <= percent < 99.5 else f"{percent:.1f}"
    if part and text == "0.0":
        return "under 0.1 %"
    return "over 99.9 %" if part < whole and text == "100.0" else f"{text} %"


def duration(steps: float, result: WorkloadResult) -> str:
    """Steps, or seconds where the time of a step is known."""
    if result.step_time is not None:
        return f"{steps * result.step_time:,.2f} s"
    return "1 step" if steps == 1 else f"{steps:,.0f} steps"


def figures(result: WorkloadResult) -> Iterator[Figure]:
    """Every figure but the course of it."""
    yield from engine_figures(result)
    yield from request_figures(result)
    steps = f"{result.steps:,}"
    if result.step_time is not None:
        steps += f" ({duration(result.steps, result)})"
    yield Figure("steps", "Engine steps", result.steps, steps, "in which something was scheduled")
    yield from spread("running", "Running at once", result.running, "steps")
    if result.running_loaded is not None:
        meaning = "steps that leave some waiting"
        yield from spread("running_loaded", "  under load", result.running_loaded, meaning)
    yield from spread("waiting", "Waiting", result.waiting, "steps")
    yield from spread("used_blocks", "Blocks in use", result.used_blocks, "steps")
    ran = result.requests - result.refused
    yield Figure(
        "waited", "Requests that wait", result.waited, share(result.waited, ran), "for admission"
    )
    yield from spread("wait_steps", "  steps", result.wait_steps, "requests")
    thrown = f"of {result.preempted_requests:,} requests, which compute everything again"
    count = f"{result.preemptions:,}"
    yield Figure("preemptions", "Preemptions", result.preemptions, count, thrown)
    again = share(result.recomputed_tokens, result.computed_tokens)
    yield Figure(
        "recomputed_tokens",
        "Recomputed",
        result.recomputed_tokens,
        again,
        "of all scheduled tokens",
    )
    rate = result.prefix_hit_rate
    found = "-" if rate is None else share(result.cached_tokens, result.queried_tokens)
    yield Figure("prefix_hit_rate", "Prefix cache hits", rate, found, "of the prompts' tokens")
    yield Figure("limited_by", "", limited_by(result), "", "")


def engine_figures(result: WorkloadResult) -> Iterator[Figure]:
    """What ran."""
    plan = result.plan
    who = "vLLM's own scheduler" if result.scheduler == "vllm" else "vLLM's rules restated"
    yield Figure("model", "Model", plan.model.id, printable(plan.model.id), plan.model.architecture)
    gpus = f"{plan.gpu.num_gpus} x {plan.gpu.name}"
    yield Figure("gpu", "GPU", plan.gpu.name, printable(gpus), "")
    version = f"vLLM {plan.planner.vllm_version}"
    yield Figure("scheduler", "Scheduler", result.scheduler, result.scheduler, f"{who}, {version}")
    tokens = f"{plan.kv_cache.kv_cache_size_tokens:,} tokens"
    blocks = f"{result.usable_blocks:,}"
    yield Figure(
        "usable_blocks", "KV blocks", result.usable_blocks, blocks, f"GPU KV cache: {tokens}"
    )
    for name in ("max_model_len", "max_num_seqs", "max_num_batched_tokens"):
        value = getattr(plan.engine, name)
        yield Figure(name, name, value, f"{value:,}", "")


def request_figures(result: WorkloadResult) -> Iterator[Figure]:
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


def spread(name: str, label: str, values: Spread, over: str) -> Iterator[Figure]:
    """One line for people, six figures for programs; all but the mean have no text."""
    text = f"{values.p5:,} to {values.p95:,}"
    usual = f"5 to 95 % of the {over}; mean {values.mean:,.1f}, most {values.most:,}"
    yield Figure(f"{name}.mean", label, values.mean, text, usual)
    for part in ("least", "p5", "p50", "p95", "most"):
        yield Figure(f"{name}.{part}", "", getattr(values, part), "", "")


def remarks(result: WorkloadResult) -> list[str]:
    """What the plan and the run have to say beside their figures, each once."""
    return [printable(note) for note in dict.fromkeys((*result.plan.notes, *result.notes))]
