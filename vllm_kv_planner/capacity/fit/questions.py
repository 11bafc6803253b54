"""The single questions: how long a context, how small a share, how few GPUs, which flag."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...errors import InputError, PlannerError
from ...gpu.catalogue import DEFAULT_GPU, find_gpu
from ...gpu.gpu import GPU
from ...planning.request import PlanRequest, plan_request
from .constraints import MOST_REQUESTS, gpus_of, whole
from .fit import Model, fit
from .measure import Measure
from .offer import serve_line
from .result import DeviceAnswer, DeviceAnswers, FitResult
from .solve import longest_length, smallest_utilization, with_room_for
from .suggestions import Suggestions, suggestions_of

GPUNames = str | GPU | Sequence[str | GPU]
Solver = Callable[[PlanRequest, int, Measure], int | float | None]
"""The value of one engine for so many requests; None or 0 where there is none."""


def longest_context(
    model: Model, *, gpu: GPUNames = DEFAULT_GPU, concurrency: int = 1, **flags: Any
) -> DeviceAnswers:
    """The largest ``max_model_len`` of which ``concurrency`` requests surely run at once.

    Args:
        model: As ``fit``.
        gpu: Devices, each answered by itself; the engine is the one that ``flags`` describe.
        concurrency: Requests at once, all data-parallel engines together.
        **flags: What ``plan()`` takes.

    Raises:
        PlannerError: The input is wrong, or the engine plannable on none of the devices.
    """
    request = plan_request(model, **flags)
    return solved("max-model-len", request, gpu=gpu, concurrency=concurrency)


def least_utilization(
    model: Model, *, gpu: GPUNames = DEFAULT_GPU, concurrency: int = 1, **flags: Any
) -> DeviceAnswers:
    """The smallest ``gpu_memory_utilization``, in hundredths, that surely holds the requests.

    Arguments and errors as of ``longest_context``.
    """
    request = plan_request(model, **flags)
    return solved("min-utilization", request, gpu=gpu, concurrency=concurrency)


def fewest_gpus(
    model: Model, *, gpu: GPUNames = "any", concurrency: int = 1, **options: Any
) -> DeviceAnswers:
    """For each device the fewest that do it; ``options`` as ``fit`` takes them.

    Raises:
        PlannerError: As ``fit``.
    """
    devices = gpus_of(gpu, {})

    def search(device: GPU) -> FitResult:
        return fit(model, gpu=device, concurrency=concurrency, **{**options, "top": 1})

    return fewest_of(devices, search)


def suggest(
    model: Model, *, gpu: str | GPU = DEFAULT_GPU, concurrency: int = 1, **flags: Any
) -> Suggestions:
    """What each single flag more would buy an engine.

    Raises:
        PlannerError: The engine itself cannot be planned.
    """
    return suggested_for(plan_request(model, gpu=gpu, **flags), concurrency=concurrency)


def solved(
    question: str, request: PlanRequest, *, gpu: GPUNames, concurrency: int
) -> DeviceAnswers:
    """``max-model-len`` or ``min-utilization`` of an engine whose flags are read."""
    flag, solve = _SOLVERS[question]
    whole("concurrency", concurrency, most=MOST_REQUESTS)
    if request.args.kv_cache_memory_bytes is not None and question == "min-utilization":
        raise InputError("--kv-cache-memory-bytes: vLLM then reads no --gpu-memory-utilization")
    measure, refusals, answers = Measure(), [], []
    for device in gpus_of(gpu, {}):
        engine = request.on(device)
        value: int | float | None = None
        message = "no value is enough"
        try:
            engine = with_room_for(engine, concurrency, measure)
            value = solve(engine, concurrency, measure) or None
        except PlannerError as refusal:
            refusals.append(refusal)
            message = str(refusal)
        held = None
        if value is not None:
            engine, message = engine.with_args(**{flag: value}), ""
            held = measure(engine).pessimistic_requests
        answers.append(
            DeviceAnswer(
                model=engine.found.id,
                gpu=device.short_name,
                num_gpus=engine.args.num_gpus,
                value=value,
                sure_requests=None if held is None else held * engine.args.data_parallel_size,
                message=message,
                command="" if value is None else serve_line(engine.args, engine.environment),
            )
        )
    if len(refusals) == len(answers):
        raise refusals[0]
    return DeviceAnswers(
        question=question,
        concurrency=concurrency,
        max_model_len=None if question == "max-model-len" else request.args.max_model_len,
        answers=tuple(answers),
        notes=request.said,
    )


_SOLVERS: dict[str, tuple[str, Solver]] = {
    "max-model-len": ("max_model_len", longest_length),
    "min-utilization": ("gpu_memory_utilization", smallest_utilization),
}


def fewest_of(devices: Sequence[GPU], search: Callable[[GPU], FitResult]) -> DeviceAnswers:
    """The best set-up of each device, as far as its number goes."""
    found: list[FitResult | PlannerError] = []
    for device in devices:
        try:
            found.append(search(device))
        except PlannerError as refusal:
            found.append(refusal)
    result = next((each for each in found if isinstance(each, FitResult)), found[0])
    if isinstance(result, PlannerError):
        raise result
    return DeviceAnswers(
        question="min-gpus",
        concurrency=result.concurrency,
        max_model_len=result.max_model_len,
        answers=tuple(map(_fewest, devices, found)),
        notes=result.notes,
    )


def _fewest(device: GPU, found: FitResult | PlannerError) -> DeviceAnswer:
    if isinstance(found, PlannerError):
        model, best, message = "", None, str(found)
    else:
        model, best = found.models[0], found.best
        message = found.misses[-1].message if found.misses else "no set-up fits"
    return DeviceAnswer(
        model=model if best is None else best.model,
        gpu=device.short_name,
        num_gpus=0 if best is None else best.num_gpus,
        value=None if best is None else best.num_gpus,
        sure_requests=None if best is None else best.sure_requests,
        message=message if best is None else "",
        command="" if best is None else best.command,
    )


def suggested_for(request: PlanRequest, *, concurrency: int) -> Suggestions:
    """``suggest`` for an engine whose flags are read."""
    measure = Measure()
    found = suggestions_of(request, concurrency=concurrency, measure=measure)
    now = measure(request)
    gpu = request.gpu or DEFAULT_GPU
    replicas = request.args.data_parallel_size
    fits = now.holds(-(-concurrency // replicas))
    why_not = now.why_not
    if not fits and not why_not:
        held = min(now.pessimistic_requests or 0, now.max_num_seqs) * replicas
        why_not = f"{held:,} of {concurrency:,} requests of max_model_len run at once"
    return Suggestions(
        model=request.found.id,
        gpu=(gpu if isinstance(gpu, GPU) else find_gpu(gpu)).short_name,
        num_gpus=request.args.num_gpus,
        concurrency=concurrency,
        fits=fits,
        why_not=why_not,
        available_kv_cache_bytes=now.available_bytes,
        current_concurrency=now.concurrency * replicas,
        max_model_len=now.max_model_len,
        suggestions=found,
        command=serve_line(request.args, request.environment),
        notes=request.said,
    )
