"""``fit()``: what to ask for in, ranked set-ups out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ...config.find import FoundConfig, found_config
from ...errors import InputError
from ...gpu.gpu import GPU
from ...planning.machine import UNKNOWN_MACHINE, Machine
from ...planning.request import PlanRequest, plan_request
from ...records import replace
from .constraints import Wanted
from .offers import offer_of
from .result import FitResult
from .search import Search
from .suggestion import Suggestion

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
    given = {**engine_args, "planner": planner, "vllm_version": vllm_version, "machine": machine}
    request, named = _request(model, context, given)
    wanted = Wanted(
        named=named,
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


def _request(
    model: Model, context: int | None, given: dict[str, Any]
) -> tuple[PlanRequest, tuple[str, ...]]:
    """The engine that ``plan()``'s arguments describe, and the flags among them."""
    if context is not None:
        if given.get("max_model_len", context) != context:
            raise InputError("context and max_model_len are the same thing: give one of them")
        given["max_model_len"] = context
    own = ("planner", "vllm_version", "machine")
    return plan_request(model, **given), tuple(name for name in given if name not in own)


def fit_request(request: PlanRequest, wanted: Wanted, variants: Sequence[Model] = ()) -> FitResult:
    """``fit`` of an engine whose flags are already read.

    Args:
        request: The engine; its ``max_model_len`` is the context asked for.
        wanted: What it must do, and may use.
        variants: Other models that would do as well.

    Raises:
        PlannerError: As ``fit``.
    """
    constraints = wanted.constraints(request.args)
    if isinstance(variants, str) or not isinstance(variants, (list, tuple)):
        raise InputError("variants: a list of models, such as [MODEL, MODEL]")
    models = [request, *(_variant(request, each) for each in variants)]
    search = Search(models, constraints)
    search.run()
    return _result(search, wanted)


def _variant(request: PlanRequest, model: Model) -> PlanRequest:
    """The same engine with another model."""
    found = found_config(model)
    return replace(request, found=found, args=replace(request.args, model=found.id))


def _result(search: Search, wanted: Wanted) -> FitResult:
    constraints = search.constraints
    request = search.models[0]
    offers = tuple(offer_of(search, found, wanted.launcher) for found in search.offers)
    nearest = None
    if not offers and search.nearest is not None:
        nearest = offer_of(search, search.nearest, wanted.launcher)
    suggestions: tuple[Suggestion, ...] = ()
    if nearest is not None:
        from .suggestions import suggestions_of

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
