"""Single changes of an engine that give its KV cache more room, the smallest first.

How small a change is, is a matter of what one gives for it: nothing but slack, then how many
short requests run together, speed, accuracy, context, and at last hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...errors import PlannerError
from ...gpu.catalogue import DEFAULT_GPU, find_gpu, offered_gpus
from ...gpu.gpu import GPU
from ...planning.request import PlanRequest
from ...records import dataclass
from .measure import Measured, Measurer
from .solve import (
    HUNDREDTHS,
    SMALL_STEP,
    at_utilization,
    last_that,
    longest_length,
    requests_of_each,
    smallest_utilization,
)

FEW_SEQS = 16
"""``max_num_seqs`` that is suggested at least, where no value makes the plan fit."""
MEMORY_STEP = 64 << 20
"""Bytes: a given KV memory is suggested in whole steps of this."""
MOST_RANKS = 16
"""GPUs of one engine that are suggested at most."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of one flag, not yet planned; names as of ``Suggestion``.

    ``request`` is the engine changed.
    """

    flag: str
    value: Any
    costs: str
    request: PlanRequest


@dataclass(frozen=True, kw_only=True)
class Start:
    """The engine to be changed, what it holds, and what all its replicas shall hold at once."""

    request: PlanRequest
    measured: Measured
    concurrency: int
    measure: Measurer

    @property
    def each(self) -> int:
        """Requests that one engine has to hold."""
        return requests_of_each(self.request, self.concurrency)

    @property
    def gpu(self) -> GPU:
        """The GPU of every rank."""
        named = self.request.gpu or DEFAULT_GPU
        return named if isinstance(named, GPU) else find_gpu(named)

    @property
    def weights_fill_gpu(self) -> bool:
        """Whether the weights of a rank alone are more than its GPU has."""
        weights = self.measured.weights_bytes
        return weights is not None and weights > self.gpu.total_memory_bytes

    def holds(self, request: PlanRequest) -> bool:
        """Whether that engine can be planned and holds what is asked for."""
        try:
            measured = self.measure(request)
        except PlannerError:
            return False
        return measured.holds(requests_of_each(request, self.concurrency))

    def change(self, flag: str, value: Any, costs: str) -> Change:
        """One flag changed."""
        request = self.request.with_args(**{flag: value})
        return Change(flag=flag, value=value, costs=costs, request=request)


def another_utilization(start: Start) -> Iterator[Change]:
    """The nearest share of the GPU that is enough; if it is already, the largest that starts."""
    args, flag = start.request.args, "gpu_memory_utilization"
    if args.kv_cache_memory_bytes is not None:
        return
    now = int(args.gpu_memory_utilization * HUNDREDTHS + 1e-9)

    def starts(hundredths: int) -> bool:
        return at_utilization(start.request, hundredths, start.measure).fits

    if start.measured.holds(start.each):
        value = last_that(starts, now, HUNDREDTHS + 1)
    else:
        enough = smallest_utilization(start.request, start.concurrency, start.measure)
        value = now if enough is None else round(enough * HUNDREDTHS)
        if value < now:  # the KV cache has room, but the start has not
            value = last_that(starts, value, now)
    if value != now:
        left = "less" if value > now else "more"
        yield start.change(flag, value / HUNDREDTHS, f"{left} of the GPU is left free")


def another_max_num_seqs(start: Start) -> Iterator[Change]:
    """As many as are asked for, where it allows fewer; else the largest smaller one that fits."""
    now, flag = start.measured.max_num_seqs, "max_num_seqs"
    if now < start.each:
        yield start.change(flag, start.each, "steps take more memory")
        return
    sizes = {1 << power for power in range(12, -1, -1)} | {start.measured.most_seqs or 1}
    smaller = [size for size in sorted(sizes, reverse=True) if start.each <= size < now]
    if not smaller:
        return
    value = smaller[0]
    if not start.measured.holds(start.each):
        fitting = (v for v in smaller if start.holds(start.request.with_args(max_num_seqs=v)))
        small = min((size for size in smaller if size >= FEW_SEQS), default=smaller[0])
        value = next(fitting, small)
    yield start.change(flag, value, "fewer requests in a step")


def less_given_memory(start: Start) -> Iterator[Change]:
    """Of KV memory that the user gives, what the GPU has room for, in whole 64 MiB."""
    flag, given = "kv_cache_memory_bytes", start.request.args.kv_cache_memory_bytes
    if given is None or start.measured.holds(start.each):
        return

    def holds(steps: int) -> bool:
        return start.holds(start.request.with_args(**{flag: steps * MEMORY_STEP}))

    # less memory may be too little, more too much: the largest that holds lies below the given one
    most = given // MEMORY_STEP
    enough = next((most >> by for by in range(most.bit_length()) if holds(most >> by)), None)
    if enough is not None:
        value = last_that(holds, enough, min(2 * enough + 2, most + 1))
        yield start.change(flag, value * MEMORY_STEP, "what the GPU has room for")


def fewer_batched_tokens(start: Start) -> Iterator[Change]:
    """Smaller steps: half, and the largest half of a half that fits."""
    now, flag = start.measured.max_num_batched_tokens, "max_num_batched_tokens"
    least = max(SMALL_STEP // 4, start.measured.max_num_seqs)
    smaller = [size for size in (now >> by for by in range(1, 8)) if size >= least]
    if not smaller:
        return
    value = smaller[0]
    if not start.measured.holds(start.each):
        fitting = (v for v in smaller if start.holds(start.request.with_args(**{flag: v})))
        value = next(fitting, smaller[-1])
    yield start.change(flag, value, "long prompts take more steps")


def without_video(start: Start) -> Iterator[Change]:
    """No videos, which are the largest thing that some encoders are profiled with."""
    limits, flag = start.request.args.limit_mm_per_prompt, "limit_mm_per_prompt"
    if limits.get("video", 1) != 0 and not start.request.args.language_model_only:
        yield start.change(flag, {**limits, "video": 0}, "videos are refused")


def text_only(start: Start) -> Iterator[Change]:
    """No encoder, where the model has one and nobody limited it."""
    from ...engine_args.setup import described

    request = start.request
    if request.args.language_model_only:
        return
    if described(request.found, request.args).is_multimodal:
        yield start.change("language_model_only", True, "images, audio and video are refused")


def eager(start: Start) -> Iterator[Change]:
    """No CUDA graphs."""
    if not start.request.args.enforce_eager:
        yield start.change("enforce_eager", True, "slower decoding")


def quantised_cache(start: Start) -> Iterator[Change]:
    """A cache of half the bytes."""
    if start.request.args.kv_cache_dtype in ("auto", "bfloat16", "float16"):
        yield start.change("kv_cache_dtype", "fp8", "some accuracy is lost")


def shorter_context(start: Start) -> Iterator[Change]:
    """The longest context that is served."""
    if start.measured.holds(start.each):
        return
    try:
        longest = longest_length(start.request, start.concurrency, start.measure)
    except PlannerError:
        return
    if 0 < longest < start.measured.max_model_len:
        yield start.change("max_model_len", longest, "shorter requests only")


def more_ranks(start: Start) -> Iterator[Change]:
    """More GPUs for the engine: shared layers; stages, where the layers cannot be shared so."""
    args = start.request.args
    for flag, costs in (
        ("tensor_parallel_size", "times as many GPUs"),
        ("pipeline_parallel_size", "times as many GPUs, in stages"),
    ):
        possible = []
        for times in (2, 4, 8):
            if args.world_size * times > MOST_RANKS:
                break
            change = start.change(flag, times * getattr(args, flag), f"{times} {costs}")
            try:
                start.measure(change.request)
            except PlannerError:
                continue
            if start.holds(change.request):
                yield change
                return
            possible.append(change)
        if possible:
            yield possible[0]
            return


def more_engines(start: Start) -> Iterator[Change]:
    """More engines side by side, where one holds some of what is asked for."""
    args, flag = start.request.args, "data_parallel_size"
    held = start.measured.pessimistic_requests
    if not start.measured.fits or start.measured.holds(start.each) or not held:
        return
    engines = -(-start.concurrency // held)
    if engines <= MOST_RANKS:
        times = -(-engines // args.data_parallel_size)
        yield start.change(flag, times * args.data_parallel_size, f"{times} times as many GPUs")


def larger_gpu(start: Start) -> Iterator[Change]:
    """The smallest GPU of the catalogue, above this one, that is enough."""
    request = start.request
    if start.measured.holds(start.each):
        return
    mine = start.gpu
    larger = [
        gpu
        for gpu in offered_gpus()
        if gpu.platform == mine.platform and gpu.total_memory_bytes > mine.total_memory_bytes
    ]
    for gpu in sorted(larger, key=lambda gpu: gpu.total_memory_bytes):
        if start.holds(request.on(gpu)):
            yield Change(
                flag="gpu", value=gpu.short_name, costs="another GPU", request=request.on(gpu)
            )
            return


Changes = tuple[Callable[[Start], Iterator[Change]], ...]

CHANGES: Changes = (
    another_utilization,
    less_given_memory,
    another_max_num_seqs,
    fewer_batched_tokens,
    eager,
    quantised_cache,
    without_video,
    text_only,
    shorter_context,
    more_ranks,
    more_engines,
    larger_gpu,
)
"""The smallest change first; the order of ``docs/fit.md``."""
OF_WEIGHTS: Changes = (text_only, more_ranks, larger_gpu)
"""The changes that make a rank's weights fewer, or its GPU larger."""
