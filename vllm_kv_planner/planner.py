"""``plan()``: a model, an engine's flags and a GPU in, one ``Plan`` out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .described import described
from .engine_args.engine_args import EngineArgs
from .engine_args.environment import EngineEnvironment
from .engine_args.setup import EngineSetup, resolve_setup
from .errors import InputError, UnsupportedError
from .gpu.catalogue import DEFAULT_GPU, find_gpu
from .gpu.gpu import GPU
from .kv_cache.capacity import KVCachePlan, Worker, plan_kv_cache
from .kv_cache.specs import RequestLimits
from .kv_memory import kv_memory
from .machine import UNKNOWN_MACHINE, Machine
from .model.find import FoundConfig, find_config
from .older_versions import as_logged, older_rules, request_limits, with_defaults
from .plan_types import Plan
from .standalone import assemble

VLLM_VERSION = "0.33.0"
"""The version whose rules the stand-alone planner restates."""


def plan(
    model: str | FoundConfig,
    *,
    gpu: str | GPU | None = None,
    planner: str = "auto",
    vllm_version: str | None = None,
    machine: Machine = UNKNOWN_MACHINE,
    **engine_args: Any,
) -> Plan:
    """How much KV cache the engine will have, and what it holds.

    Args:
        model: Hub id, directory, config.json, or a config already found.
        gpu: Name of the GPU of every rank, or a ``GPU``; H100 where none is given.
        planner: ``standalone``, ``vllm`` or ``auto``.
        vllm_version: vLLM's version to plan for, from 0.10 on; 0.33 where none is given.
        machine: Free memory of a shared GPU, and what ``calibrate`` learned of it.
        **engine_args: vLLM's own names (``max_model_len``, ``tensor_parallel_size``, …). With
            ``kv_cache_memory_bytes``, bytes of KV memory of every GPU, nothing is predicted.

    Raises:
        PlannerError: The input is wrong or not plannable; one line says what and where.
    """
    if isinstance(model, str):
        model = find_config(model, revision=engine_args.get("revision"))
    try:
        args = EngineArgs(model=model.id, **engine_args)
    except TypeError as error:
        raise InputError(f"plan(): {error}") from None
    return plan_engine_args(
        args,
        found=model,
        gpu=gpu,
        planner=planner,
        vllm_version=vllm_version,
        machine=machine,
    )


def plan_engine_args(
    args: EngineArgs,
    *,
    found: FoundConfig,
    gpu: str | GPU | None = None,
    planner: str = "auto",
    vllm_version: str | None = None,
    environment: EngineEnvironment | None = None,
    machine: Machine = UNKNOWN_MACHINE,
    notes: tuple[str, ...] = (),
) -> Plan:
    """The plan of flags that are already read, for a model that is already found.

    Raises:
        PlannerError: As ``plan``.
    """
    check_planner(planner)
    if planner == "vllm":
        from .vllm_adapter.budget import predicted_memory, told, with_memory
        from .vllm_adapter.shared import plan_with_vllm

        memory = predicted_memory(
            args,
            found=found,
            gpu=gpu,
            environment=environment,
            machine=machine,
            vllm_version=VLLM_VERSION,
        )
        answer = plan_with_vllm(
            with_memory(args, memory),
            found=found,
            gpu=gpu,
            vllm_version=vllm_version,
            environment=environment,
            notes=notes,
        )
        return told(answer, memory)
    try:
        return plan_standalone(
            args,
            found=found,
            gpu=gpu,
            vllm_version=vllm_version,
            environment=environment,
            machine=machine,
            notes=notes,
        )
    except UnsupportedError as refusal:
        if planner == "standalone":
            raise
        from .vllm_adapter.shared import plan_instead

        return plan_instead(
            refusal,
            args,
            found=found,
            gpu=gpu,
            vllm_version=vllm_version,
            environment=environment,
            notes=notes,
        )


def plan_standalone(
    args: EngineArgs,
    *,
    found: FoundConfig,
    gpu: str | GPU | None,
    vllm_version: str | None,
    environment: EngineEnvironment | None,
    machine: Machine = UNKNOWN_MACHINE,
    notes: tuple[str, ...],
) -> Plan:
    """The plan of vLLM's rules as restated here."""
    if gpu is None:
        gpu = DEFAULT_GPU
        notes = (*notes, f"no GPU given: planned for {DEFAULT_GPU}; --gpu NAME for another")
    device = machine.device(gpu if isinstance(gpu, GPU) else find_gpu(gpu))
    model = described(found, args)
    rules = None if vllm_version in (None, VLLM_VERSION) else older_rules(vllm_version)
    if rules is not None:
        args, said = with_defaults(args, model, rules)
        notes = (*said, *notes)
    setup = resolve_setup(args, model, device, environment)
    limits = request_limits(setup, rules)
    version = VLLM_VERSION if rules is None else rules.name
    memory = kv_memory(setup, found, version, machine)
    blocks = plan_blocks(setup, memory.available, limits)
    pessimistic = blocks
    if memory.pessimistic != memory.available:
        pessimistic = plan_blocks(setup, memory.pessimistic, limits)
    return assemble(
        setup,
        found,
        memory,
        as_logged(blocks, rules),
        pessimistic,
        limits,
        vllm_version=version,
        notes=notes,
    )


def plan_blocks(setup: EngineSetup, available: Sequence[int], limits: RequestLimits) -> KVCachePlan:
    """Divide each stage's ``available`` bytes of one GPU into blocks."""
    length = setup.resolved.length
    return plan_kv_cache(
        [
            Worker(layers=layers, available_bytes=size)
            for layers, size in zip(setup.cache.stages, available, strict=True)
        ],
        limits,
        layout=setup.cache.layout,
        model_max_len=longest_worth_trying(setup),
        auto_fit=length.auto_fit,
        num_gpu_blocks_override=setup.args.num_gpu_blocks_override,
        hybrid_kv_cache_manager=not setup.resolved.disable_hybrid_kv_cache_manager,
    )


def longest_worth_trying(setup: EngineSetup) -> int:
    """The model's own length; the one asked for where the config names none, or it is longer."""
    length = setup.resolved.length
    derived = length.derived
    return max(length.max_model_len, int(derived) if derived < 1 << 40 else 0)


def check_planner(planner: str) -> None:
    """Refuse planners that do not exist.

    Raises:
        InputError: No such planner.
    """
    if planner not in ("auto", "standalone", "vllm"):
        raise InputError(f"--planner {planner!r}: one of auto, standalone, vllm")
