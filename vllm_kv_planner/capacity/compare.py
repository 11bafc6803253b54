"""``compare``: models side by side, each figure what vLLM would say of that engine.

Every length is planned as an engine of its own: what stands under 8,192 tokens is what vLLM logs
when it is started with ``--max-model-len 8192``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import InputError, PlannerError, WeightsUnknownError
from ..masking import without_secrets
from ..planner import plan_of
from ..planning.request import UNKNOWN_MACHINE, Machine, PlanRequest, check_inputs, engine_args_of
from ..planning.types import REFUSED
from ..records import replace
from .compared import ComparedModel, ModelComparison, RequestFigures
from .paging import is_given, is_known, sizes_only, with_stand_in

if TYPE_CHECKING:
    from ..config.find import FoundConfig
    from ..gpu.gpu import GPU
    from ..planning.types import Plan


COMMON_MODELS = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.3-70B-Instruct",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-32B",
    "Qwen/Qwen3-30B-A3B-Instruct-2507",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
    "mistralai/Mistral-7B-Instruct-v0.3",
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506",
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "google/gemma-3-27b-it",
    "microsoft/phi-4",
    "openai/gpt-oss-20b",
    "openai/gpt-oss-120b",
    "zai-org/GLM-4.5-Air",
    "deepseek-ai/DeepSeek-V3.1",
)
"""Open models that are much served: plain, hybrid, latent, mixtures of experts; 7B to 671B."""


LENGTHS = (8192, 32768)
"""Tokens of one request, beside each model's own maximum."""
MOST_LENGTHS = 20


def compare_models(
    models: Sequence[str | os.PathLike[str] | FoundConfig] = COMMON_MODELS,
    *,
    gpu: str | GPU | None = None,
    lengths: Sequence[int] = LENGTHS,
    planner: str = "auto",
    vllm_version: str | None = None,
    machine: Machine = UNKNOWN_MACHINE,
    **engine_args: Any,
) -> ModelComparison:
    """Models side by side on one kind of GPU: bytes per token, per request, requests at once.

    Args:
        models: Hub ids, directories, config.json files or configs already found; the common ones
            where none are named.
        gpu: The GPU of every rank; H100 where none is given.
        lengths: Tokens of one request, beside each model's own maximum.
        planner: As ``plan()`` takes it.
        vllm_version: As ``plan()`` takes it.
        machine: As ``plan()`` takes it.
        **engine_args: vLLM's own names, the same for every model.

    Raises:
        PlannerError: A flag, the GPU or a length is wrong. A model that cannot be planned raises
            nothing: its row says why.
    """
    from ..gpu.catalogue import find_gpu

    if isinstance(models, str | bytes | os.PathLike) or not isinstance(models, Iterable):
        raise InputError("models: a list of models, such as [MODEL, MODEL]")
    check_inputs(gpu, vllm_version, machine, planner)
    if isinstance(gpu, str) and planner != "vllm":
        gpu = find_gpu(gpu)
    args = engine_args_of("", engine_args, vllm_version)
    rows: list[PlanRequest | ComparedModel] = []
    for model in models:
        found = found_or_refused(model, args.revision)
        if isinstance(found, ComparedModel):
            rows.append(found)
            continue
        rows.append(
            PlanRequest(
                found=found,
                args=replace(args, model=found.id),
                gpu=gpu,
                planner=planner,
                vllm_version=vllm_version,
                machine=machine,
            )
        )
    return compare(rows, lengths)


def found_or_refused(model: object, revision: object = None) -> FoundConfig | ComparedModel:
    """The model's config, or the row that says why there is none."""
    from ..config.find import found_config

    try:
        return found_config(model, revision)
    except PlannerError as refusal:
        return refused_row(without_secrets(str(model)), str(refusal))


def compare(
    rows: Iterable[PlanRequest | ComparedModel], lengths: Sequence[int] = LENGTHS
) -> ModelComparison:
    """The comparison of requests; rows that are answered already stay as they are.

    A model that cannot be planned becomes a row with its reason; a wrong length is an InputError.
    """
    checked = checked_lengths(lengths)
    gpu = None
    models = []
    notes: dict[str, None] = {}
    for row in rows:
        if isinstance(row, ComparedModel):
            models.append(row)
            continue
        row.check()
        notes.update(dict.fromkeys(row.said))
        try:
            answer, plan = compared(row, checked, memory_known=is_known(row))
            gpu = gpu or plan.gpu
        except PlannerError as refusal:
            answer = refused(row, checked, str(refusal))
        models.append(answer)
    return ModelComparison(
        gpu=None if gpu is None else gpu.name,
        num_gpus=None if gpu is None else gpu.num_gpus,
        lengths=checked,
        models=tuple(models),
        notes=tuple(notes),
    )


def checked_lengths(lengths: Sequence[int]) -> tuple[int, ...]:
    """The lengths, which are positive whole numbers, each once."""
    from ..config.found import LONGEST
    from ..engine_args.value_types import shown

    if not isinstance(lengths, Sequence) or isinstance(lengths, str):
        raise InputError(f"lengths: {shown(lengths)} is not a list of token counts")
    for each in lengths:
        if not isinstance(each, int) or isinstance(each, bool) or not 0 < each <= LONGEST:
            raise InputError(f"length {shown(each)}: tokens from 1 to {LONGEST:,}")
    if not 0 < len(lengths) <= MOST_LENGTHS:
        raise InputError(f"lengths: {len(lengths)} of them; give 1 to {MOST_LENGTHS}")
    return tuple(dict.fromkeys(lengths))


def refused(request: PlanRequest, lengths: tuple[int, ...], reason: str) -> ComparedModel:
    """The row of a model that cannot be planned: its sizes, where only the memory is not known."""
    if not is_given(request):
        with suppress(PlannerError):
            row, _ = compared(sizes_only(request), lengths, memory_known=False)
            return replace(row, reason=reason)
    return refused_row(request.found.id, reason)


def refused_row(model: str, reason: str) -> ComparedModel:
    """The row of a model that cannot be planned."""
    return ComparedModel(model=model, reason=reason, verdict=REFUSED, limits=(reason,))


def compared(
    request: PlanRequest, lengths: tuple[int, ...], *, memory_known: bool
) -> tuple[ComparedModel, Plan]:
    """One model's row, and the plan it was taken from."""
    if not memory_known:
        request = with_stand_in(request)
    # a hand-made model takes any length, and has no maximum of its own
    endless = request.found.source == "custom" and request.args.max_model_len is None
    if endless:
        request = request.with_args(max_model_len=max(lengths))
    plan = plan_of(request)
    if memory_known:
        from .fit.suggestions import with_changes

        plan = with_changes(request, plan)
        if plan.memory.available_kv_cache_bytes is None:
            raise WeightsUnknownError(plan.limits[0])
    memory, cache = plan.memory, plan.kv_cache
    figures = [plan_at(request, plan, length) for length in lengths]
    row = ComparedModel(
        model=plan.model.id,
        architecture=plan.model.architecture,
        config_source=plan.model.config_source,
        kv_cache_dtype=plan.engine.kv_cache_dtype,
        bytes_per_token=cache.bytes_per_token,
        max_model_len=None if endless else plan.engine.max_model_len,
        weights_bytes=memory.weights_bytes,
        available_kv_cache_bytes=memory.available_kv_cache_bytes if memory_known else None,
        max_model_len_that_fits=cache.max_model_len_that_fits if memory_known else None,
        verdict=plan.verdict if memory_known else None,
        limits=plan.limits if memory_known else (),
        changes=plan.changes,
        at=tuple(None if each is None else figures_of(each, memory_known) for each in figures),
        at_maximum=None if endless else figures_of(plan, memory_known),
    )
    return row, plan


def plan_at(request: PlanRequest, largest: Plan, length: int) -> Plan | None:
    """The engine started with this ``max_model_len``; None where vLLM refuses so long a one."""
    limit = largest.engine.max_model_len
    if length == limit:
        return largest
    if length > limit and request.args.max_model_len is not None:
        return None
    try:
        # some models (LongRoPE) reach further than what vLLM takes unasked
        return plan_of(request.with_args(max_model_len=length))
    except InputError:
        if length > limit:
            return None
        raise


def figures_of(plan: Plan, memory_known: bool) -> RequestFigures:
    """What a plan says of requests of its ``max_model_len``."""
    cache = plan.kv_cache
    blocks = sum(group.blocks_per_request for group in cache.groups)
    return RequestFigures(
        tokens=plan.engine.max_model_len,
        request_bytes=blocks * cache.bytes_per_block,
        max_concurrency=cache.max_concurrency if memory_known and cache.groups else None,
        available_kv_cache_bytes=plan.memory.available_kv_cache_bytes if memory_known else None,
        fits=plan.fits if memory_known else None,
    )
