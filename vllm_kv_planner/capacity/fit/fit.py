"""``fit()``: what to ask for in, ranked set-ups out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from ...config.find import FoundConfig, found_config
from ...errors import InputError
from ...gpu.gpu import GPU
from ...planning.request import UNKNOWN_MACHINE, Machine, PlanRequest, plan_request
from ...records import replace
from .constraints import Wanted
from .measure import Measured
from .misses import Found
from .offer import Offer, node_lines
from .result import FitResult
from .search import Search
from .suggestions import Suggestion, suggestions_of

HAND_MADE = "MODEL"
"""In a command: a model that was described by hand."""


def offer_of(search: Search, found: Found, launcher: str) -> Offer:
    """The offer of one candidate."""
    constraints, candidate, measured = search.constraints, found.candidate, found.measured
    shape, args = candidate.shape, found.request.args
    replicas = shape.data_parallel_size
    each = ceil(constraints.concurrency / replicas)
    sure = found.sure_requests
    price = constraints.prices.get(candidate.gpu.short_name)
    named = replace(args, model=HAND_MADE) if found.request.found.source == "custom" else args
    lines = node_lines(
        named, num_nodes=shape.num_nodes, launcher=launcher, environment=found.request.environment
    )
    return Offer(
        model=found.request.found.id,
        gpu=candidate.gpu.short_name,
        num_gpus=candidate.num_gpus,
        num_nodes=shape.num_nodes,
        tensor_parallel_size=shape.tensor_parallel_size,
        pipeline_parallel_size=shape.pipeline_parallel_size,
        data_parallel_size=replicas,
        enable_expert_parallel=shape.enable_expert_parallel,
        kv_cache_dtype=candidate.kv_cache_dtype,
        gpu_memory_utilization=args.gpu_memory_utilization,
        max_model_len=measured.max_model_len,
        max_num_seqs=measured.max_num_seqs,
        max_num_batched_tokens=measured.max_num_batched_tokens,
        available_kv_cache_bytes=measured.available_bytes,
        uncertainty_bytes=measured.available_bytes - measured.pessimistic_bytes,
        concurrency=measured.concurrency * replicas,
        sure_requests=sure,
        spare_requests=None if sure is None else sure - constraints.concurrency,
        spare_bytes=measured.spare_bytes(each),
        limited_by=limit(measured),
        why_not_fewer=search.why_not_fewer(found),
        surely=found.surely,
        total_memory_bytes=candidate.gpu.total_memory_bytes * candidate.num_gpus,
        price=None if price is None else price * candidate.num_gpus,
        command=lines[0],
        node_commands=lines,
        request=found.request,
    )


def limit(measured: Measured) -> str:
    """What ends the number of requests that run at once."""
    held = measured.pessimistic_requests
    if held is None or measured.max_num_seqs <= held:
        return "max_num_seqs"
    weights, requested = measured.weights_bytes, measured.requested_bytes
    if weights is not None and requested is not None and 2 * weights > requested:
        return "weights"
    return "kv_cache"


Model = str | os.PathLike[str] | FoundConfig


def fit(
    model: Model,
    *,
    gpu: str | GPU | Sequence[str | GPU] = "any",
    max_gpus: int | None = None,
    gpu_counts: Sequence[int] | None = None,
    max_nodes: int = 1,
    gpus_per_node: int = 8,
    context: int | None = None,
    concurrency: int = 1,
    kv_cache_dtype: str | Sequence[str] = "auto",
    variants: Sequence[Model] = (),
    prices: Mapping[str, float] | None = None,
    launcher: str = "mp",
    borderline: bool = False,
    more_gpus: bool = False,
    top: int = 10,
    planner: str = "standalone",
    vllm_version: str | None = None,
    machine: Machine = UNKNOWN_MACHINE,
    **engine_args: Any,
) -> FitResult:
    """The set-ups that serve ``concurrency`` requests of ``context`` tokens at once, best first.

    Args:
        model: Hub id, directory, config.json (text or path), or a config already found.
        gpu: Names of GPUs to try, or ``any``: the whole catalogue. One set-up has one kind.
        max_gpus: GPUs of all machines together; as many as the machines hold by default.
        gpu_counts: The only numbers of GPUs allowed, such as 1, 2, 4 and 8; every one by default.
        max_nodes: Machines.
        gpus_per_node: GPUs in one machine; tensor parallelism stays inside it.
        context: Tokens a request may have (``max_model_len``); the model's own by default.
        concurrency: Requests of that length at once, all data-parallel engines together.
        kv_cache_dtype: KV cache dtypes allowed, the preferred one first.
        variants: Other models that would do as well, quantised ones for instance.
        prices: Price of one GPU by name, in any one unit: the cheapest set-ups come first.
        launcher: ``mp`` or ``ray``: how set-ups over several machines are started.
        borderline: Offer also what fits only if the prediction is exact.
        more_gpus: Offer also more GPUs of a device than are enough, where they hold more requests.
        top: Set-ups at most.
        planner: ``standalone``, or ``vllm``, which takes seconds for every set-up.
        vllm_version: vLLM's version to plan for; 0.33 where none is given.
        machine: Free memory of a shared GPU, and what ``calibrate`` learned of it.
        **engine_args: vLLM's own names, fixed for every set-up.

    Raises:
        PlannerError: The input is wrong, or no set-up can be planned; one line says why.
    """
    flags = dict(engine_args)
    if context is not None and flags.setdefault("max_model_len", context) != context:
        raise InputError("context and max_model_len are the same thing: give one of them")
    request = plan_request(
        model, planner=planner, vllm_version=vllm_version, machine=machine, **flags
    )
    wanted = Wanted(
        named=tuple(flags),
        gpu=gpu,
        max_gpus=max_gpus,
        gpu_counts=gpu_counts,
        max_nodes=max_nodes,
        gpus_per_node=gpus_per_node,
        concurrency=concurrency,
        kv_cache_dtype=kv_cache_dtype,
        prices=prices,
        launcher=launcher,
        borderline=borderline,
        more_gpus=more_gpus,
        top=top,
    )
    return fit_request(request, wanted, variants)


def fit_request(request: PlanRequest, wanted: Wanted, variants: Sequence[Model] = ()) -> FitResult:
    """``fit`` of an engine whose flags are read; its ``max_model_len`` is the context asked for."""
    constraints = wanted.constraints(request.args)
    if isinstance(variants, str) or not isinstance(variants, (list, tuple)):
        raise InputError("variants: a list of models, such as [MODEL, MODEL]")
    others = map(found_config, variants)
    models = [replace(request, found=f, args=replace(request.args, model=f.id)) for f in others]
    search = Search([request, *models], constraints)
    search.run()
    return _result(search, wanted)


def _result(search: Search, wanted: Wanted) -> FitResult:
    constraints = search.constraints
    request = search.models[0]
    offers = tuple(offer_of(search, found, wanted.launcher) for found in search.offers)
    nearest = None
    if not offers and search.nearest is not None:
        nearest = offer_of(search, search.nearest, wanted.launcher)
    suggestions: tuple[Suggestion, ...] = ()
    if nearest is not None:
        suggestions = suggestions_of(
            nearest.request, concurrency=constraints.concurrency, measure=search.measure
        )
    return FitResult(
        models=tuple(each.found.id for each in search.models),
        gpus=tuple(gpu.short_name for gpu in constraints.gpus),
        max_model_len=request.args.max_model_len,
        concurrency=constraints.concurrency,
        max_gpus=constraints.max_gpus,
        max_nodes=wanted.max_nodes,
        offers=offers,
        tried=search.tried,
        misses=search.nearest_misses(),
        nearest=nearest,
        suggestions=suggestions,
        notes=tuple(dict.fromkeys(note for each in search.models for note in each.said)),
    )
