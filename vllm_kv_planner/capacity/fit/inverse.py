"""The inverse questions about one set-up: how long a context, how small a share of the GPU.

Both bisect, because more memory and shorter requests never hold fewer of them
(``tests/test_fit_inverse.py`` compares with every value tried one by one).
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from ...errors import PlannerError
from ...planning.request import PlanRequest
from .measured import Measured

Measurer = Callable[[PlanRequest], Measured]

HUNDREDTHS = 100
"""Steps of ``gpu_memory_utilization`` that are tried."""


def requests_of_each(request: PlanRequest, concurrency: int) -> int:
    """Requests that one of the data-parallel engines has to hold."""
    return ceil(concurrency / request.args.data_parallel_size)


def with_room_for(request: PlanRequest, concurrency: int, measure: Measurer) -> PlanRequest:
    """The engine with steps of so many requests, where vLLM's default takes fewer.

    Raises:
        PlannerError: The set-up cannot be planned.
    """
    each = requests_of_each(request, concurrency)
    args = request.args
    if args.max_num_seqs is not None or measure(request).max_num_seqs >= each:
        return request
    changes = {"max_num_seqs": each}
    if args.max_num_batched_tokens is None and measure(request).max_num_batched_tokens < each:
        changes["max_num_batched_tokens"] = each
    return request.with_args(**changes)


def longest_length(request: PlanRequest, concurrency: int, measure: Measurer) -> int:
    """The largest ``max_model_len`` of which so many requests surely run at once; 0: none.

    Raises:
        PlannerError: The set-up cannot be planned at any length.
    """
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

    Raises:
        PlannerError: The set-up cannot be planned.
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
    """The last number from ``first`` on that holds, below ``end``; ``first`` is taken to.

    Args:
        holds: True up to some number, False from there on.
        first: Holds.
        end: Does not.
    """
    while end - first > 1:
        middle = (first + end) // 2
        if holds(middle):
            first = middle
        else:
            end = middle
    return first
