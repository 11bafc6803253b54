"""The numbers that are solved for: how long a context, how small a share of the GPU, which batch.

Context and share are bisected, because more memory and shorter requests never hold fewer requests
(``tests/test_fit_inverse.py`` compares with every value tried one by one).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import ceil

from ...errors import PlannerError
from ...planning.request import PlanRequest
from .measure import Measured, Measurer

HUNDREDTHS = 100
"""Steps of ``gpu_memory_utilization`` that are tried."""


def requests_of_each(request: PlanRequest, concurrency: int) -> int:
    """Requests that one of the data-parallel engines has to hold."""
    return ceil(concurrency / request.args.data_parallel_size)


def with_room_for(request: PlanRequest, concurrency: int, measure: Measurer) -> PlanRequest:
    """The engine with steps of so many requests, where vLLM's default takes fewer."""
    each = requests_of_each(request, concurrency)
    args = request.args
    if args.max_num_seqs is not None or measure(request).max_num_seqs >= each:
        return request
    changes = {"max_num_seqs": each}
    if args.max_num_batched_tokens is None and measure(request).max_num_batched_tokens < each:
        changes["max_num_batched_tokens"] = each
    return request.with_args(**changes)


def longest_length(request: PlanRequest, concurrency: int, measure: Measurer) -> int:
    """The largest ``max_model_len`` of which so many requests surely run at once; 0: none."""
    each = requests_of_each(request, concurrency)
    most = measure(request.with_args(max_model_len=None)).model_len

    def holds(length: int) -> bool:
        try:
            return measure(request.with_args(max_model_len=length)).holds(each)
        except PlannerError:
            return False

    return most if holds(most) else last_that(holds, 0, most)


def smallest_utilization(request: PlanRequest, concurrency: int, measure: Measurer) -> float | None:
    """The smallest ``gpu_memory_utilization``, in hundredths, that surely holds so many requests.

    None where no share of the GPU does.
    """
    each = requests_of_each(request, concurrency)

    def too_small(hundredths: int) -> bool:
        held = at_utilization(request, hundredths, measure)
        few = held.pessimistic_requests is not None and held.pessimistic_requests < each
        return few or not held.has_states

    least = last_that(too_small, 0, HUNDREDTHS + 1) + 1
    if least > HUNDREDTHS or not at_utilization(request, least, measure).holds(each):
        return None  # a larger share holds more, but leaves less for the start
    return least / HUNDREDTHS


def at_utilization(request: PlanRequest, hundredths: int, measure: Measurer) -> Measured:
    """The set-up with that share of the GPU."""
    return measure(request.with_args(gpu_memory_utilization=hundredths / HUNDREDTHS))


def last_that(holds: Callable[[int], bool], first: int, end: int) -> int:
    """The last number below ``end`` that holds, where ``first`` and all up to some number do."""
    while end - first > 1:
        middle = (first + end) // 2
        if holds(middle):
            first = middle
        else:
            end = middle
    return first


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
