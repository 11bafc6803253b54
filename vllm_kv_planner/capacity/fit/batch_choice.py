"""The batch of a set-up: vLLM's own where that works, else the largest that does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ...errors import PlannerError
from ...planning.request import PlanRequest
from .measured import Measured

Measurer = Callable[[PlanRequest], Measured]
Choice = tuple[PlanRequest, Measured]
Batch = dict[str, int]
"""The flags of a batch that differ from what vLLM would take."""

SMALL_STEP = 2048
"""Tokens of a step: vLLM's server default on GPUs below 70 GiB (``EngineArgs``, 0.33)."""


def best_batch(
    request: PlanRequest,
    requests: int,
    fixed: frozenset[str],
    measure: Measurer,
    *,
    surely: bool = True,
) -> Choice:
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
    if first.most_requests is not None and first.most_requests < requests:
        return request, first
    others = list(_other_batches(requests, fixed, first))
    smallest = next(_accepted(request, reversed(others), measure), None)
    if smallest is None or not smallest[1].holds(requests, surely=surely):
        return (request, first) if smallest is None else _without_default(smallest, measure)
    working = (
        each
        for each in _accepted(request, others, measure)
        if each[1].holds(requests, surely=surely)
    )
    return _without_default(next(working, smallest), measure)


def _without_default(choice: Choice, measure: Measurer) -> Choice:
    """The same, with the tokens of a step left out where vLLM takes so many by itself."""
    request, measured = choice
    plain = request.with_args(max_num_batched_tokens=None)
    try:
        default = measure(plain)
    except PlannerError:
        return choice
    same = default.max_num_batched_tokens == measured.max_num_batched_tokens
    return (plain, default) if same else choice


def _accepted(
    request: PlanRequest, batches: Iterable[Batch], measure: Measurer
) -> Iterator[Choice]:
    """Those that vLLM accepts: fewer tokens than the context need chunked prefill, for one."""
    for batch in batches:
        choice = request.with_args(**batch)
        try:
            yield choice, measure(choice)
        except PlannerError:
            continue


def _other_batches(requests: int, fixed: frozenset[str], first: Measured) -> Iterator[Batch]:
    """Batches that take so many requests, larger ones first; the default is not among them."""
    tokens, most = first.max_num_batched_tokens, first.max_num_seqs
    tokens_fixed = "max_num_batched_tokens" in fixed
    seqs = [most] if "max_num_seqs" in fixed else _sizes(most, requests)
    if first.most_seqs is not None and "max_num_seqs" not in fixed:
        seqs = sorted({*seqs, *({first.most_seqs} if requests <= first.most_seqs <= most else ())})
        seqs.reverse()
    for step in (tokens, SMALL_STEP):
        if step != tokens and (tokens_fixed or step > tokens):
            continue
        for each in seqs:
            needed = step if tokens_fixed else max(step, each)
            if (needed, each) == (tokens, most) or needed < each:
                continue
            # both named: left out, the tokens would shrink with max_num_seqs
            batch = {} if tokens_fixed else {"max_num_batched_tokens": needed}
            yield batch if each == most else {**batch, "max_num_seqs": each}


def _sizes(most: int, least: int) -> list[int]:
    """``most``, the powers of two between, and ``least``, which is the last one."""
    between = [1 << power for power in range(most.bit_length() + 1, -1, -1)]
    return [*([most] if most > least else []), *(n for n in between if least < n < most), least]
