"""``plan()``: a model, an engine's flags and a GPU in, one ``Plan`` out."""

from __future__ import annotations

import os
from typing import Any

from .config.find import FoundConfig
from .gpu.gpu import GPU
from .planner import plan_of
from .planning.request import UNKNOWN_MACHINE, Machine, PlanRequest, plan_request
from .planning.types import Plan


def plan(
    model: str | os.PathLike[str] | FoundConfig | PlanRequest,
    *,
    gpu: str | GPU | None = None,
    planner: str = "auto",
    vllm_version: str | None = None,
    machine: Machine = UNKNOWN_MACHINE,
    **engine_args: Any,
) -> Plan:
    """How much KV cache the engine will have, and what it holds.

    Args:
        model: Hub id, directory, config.json (text or path), or a config already found; or a
            ``PlanRequest``, which says all the rest.
        gpu: Name of the GPU of every rank, or a ``GPU``; H100 where none is given.
        planner: ``standalone``, ``vllm`` or ``auto``.
        vllm_version: vLLM's version to plan for, from 0.10 on; 0.33 where none is given.
        machine: Free memory of a shared GPU, and what ``calibrate`` learned of it.
        **engine_args: vLLM's own names (``max_model_len``, ``tensor_parallel_size``, …). With
            ``kv_cache_memory_bytes``, bytes of KV memory of every GPU, nothing is predicted.

    Raises:
        PlannerError: The input is wrong or not plannable; one line says what and where.
    """
    if isinstance(model, PlanRequest):
        own = {"gpu": gpu, "planner": planner, "vllm_version": vllm_version, "machine": machine}
        given = [name for name, value in own.items() if value != _LEFT_OUT.get(name)]
        given += engine_args
        if given:
            from .errors import InputError

            raise InputError(f"{given[0]}: a PlanRequest says it itself; leave it out")
        request = model
    else:
        request = plan_request(
            model,
            gpu=gpu,
            planner=planner,
            vllm_version=vllm_version,
            machine=machine,
            **engine_args,
        )
    answer = plan_of(request)
    if answer.fits and answer.host is None:
        return answer
    from .capacity.fit.suggestions import with_changes

    return with_changes(request, answer)


_LEFT_OUT = {"planner": "auto", "machine": UNKNOWN_MACHINE}
"""What an argument beside a ``PlanRequest`` is where nobody gave it; None of the others."""
