"""The batch of a set-up: vLLM's own where that works, else the largest that does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...errors import PlannerError
from ..request import PlanRequest
from .measure import Measured

SMALL_STEP = 2048
"""Tokens of a step: vLLM's server default on GPUs below 70 GiB (``EngineArgs``, 0.33)."""


def best_batch(
    request: PlanRequest,
    requests: int,
    fixed: frozenset[str],
    measure: Callable[[PlanRequest], Measured],
    *,
    surely: bool = True,
) -> tuple[PlanRequest, Measured]:
    """The set-up with the batch that holds so many requests; else the one that comes nearest.

    vLLM's defaults come first. A smaller batch needs less memory (``tests/test_fit_batch.py``),
    so the smallest is tried next: where it does not hold the requests, no batch does. In
    between, the largest ``max_num_seqs`` that works is taken, with the default step of tokens
    if that is possible at all, for both serve short requests better.

    Raises:
        PlannerError: The set-up cannot be planned.
    """
    first = measure(request)
    if first.holds(requests, surely=surely):
        return request, first
    smaller = list(_smaller(request, requests, fixed, first))
    best = request, first
    for choice in reversed(smaller):
        try:
            measured = measure(choice)
        except PlannerError:
            continue  # such as fewer tokens than max_model_len without chunked prefill
        best = choice, measured
        break
    if not best[1].holds(requests, surely=surely):
        return best
    for choice in smaller:
        try:
            measured = measure(choice)
        except PlannerError:
            continue
        if measured.holds(requests, surely=surely):
            return choice, measured
    return best


def _smaller(
    request: PlanRequest, requests: int, fixed: frozenset[str], first: Measured
) -> Iterator[PlanRequest]:
    """Smaller batches than vLLM's, larger ones first."""
    tokens = first.max_num_batched_tokens
    steps: list[int | None] = [None]
    if "max_num_batched_tokens" not in fixed and tokens > SMALL_STEP:
        steps.append(SMALL_STEP)
    seqs: list[int | None] = [None]
    if "max_num_seqs" not in fixed:
        seqs = [None, *_halves(first.max_num_seqs, requests)]
    for step in steps:
        for each in seqs:
            if (step, each) == (None, None) or (step or tokens) < (each or first.max_num_seqs):
                continue
            changes = {"max_num_batched_tokens": step, "max_num_seqs": each}
            yield request.with_args(**{k: v for k, v in changes.items() if v is not None})


def _halves(most: int, least: int) -> list[int]:
    """Powers of two below ``most``, down to ``least``, which is the last one."""
    found = []
    size = 1 << max(most - 1, 0).bit_length()
    while size > least:
        if size < most:
            found.append(size)
        size //= 2
    return [*found, least]
