"""``plan()``: a model, an engine's flags and a GPU in, one ``Plan`` out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .engine_args.engine_args import EngineArgs
from .engine_args.environment import EngineEnvironment
from .engine_args.setup import EngineSetup
from .engine_args.value_types import shown
from .errors import InputError, UnsupportedError, WeightsUnknownError
from .gpu.catalogue import DEFAULT_GPU, find_gpu
from .gpu.gpu import GPU
from .kv_cache.capacity import KVCachePlan, Worker, plan_kv_cache
from .kv_cache.promote import NoOneKind
from .kv_cache.specs import RequestLimits
from .model.find import FoundConfig, found_config
from .planning.assemble import assemble
from .planning.machine import UNKNOWN_MACHINE, Machine
from .planning.memory import kv_memory, unknown_memory
from .planning.standalone import VLLM_VERSION, prepare
from .planning.types import Plan
from .planning.versions import as_logged


def plan(
    model: str | os.PathLike[str] | FoundConfig,
    *,
    gpu: str | GPU | None = None,
    planner: str = "auto",
    vllm_version: str | None = None,
    machine: Machine = UNKNOWN_MACHINE,
    **engine_args: Any,
) -> Plan:
    """How much KV cache the engine will have, and what it holds.

    Args:
        model: Hub id, directory, config.json (text or path), or a config already found.
        gpu: Name of the GPU of every rank, or a ``GPU``; H100 where none is given.
        planner: ``standalone``, ``vllm`` or ``auto``.
        vllm_version: vLLM's version to plan for, from 0.10 on; 0.33 where none is given.
        machine: Free memory of a shared GPU, and what ``calibrate`` learned of it.
        **engine_args: vLLM's own names (``max_model_len``, ``tensor_parallel_size``, …). With
            ``kv_cache_memory_bytes``, bytes of KV memory of every GPU, nothing is predicted.

    Raises:
        PlannerError: The input is wrong or not plannable; one line says what and where.
    """
    found = found_config(model, engine_args.get("revision"))
    from .planning.request import PlanRequest

    check_planner(planner)
    check_inputs(gpu, vllm_version, machine)
    return PlanRequest(
        found=found,
        args=engine_args_of(found.id, engine_args, vllm_version),
        gpu=gpu,
        planner=planner,
        vllm_version=vllm_version,
        machine=machine,
    ).plan(changes=True)


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
    check_inputs(gpu, vllm_version, machine)
    notes = (*notes, *machine.notes)
    if gpu is not None and gpu != "cpu":
        from .engine_args.choose_gpu import notes_on_device

        device = machine.device(gpu if isinstance(gpu, GPU) else find_gpu(gpu))
        notes = (*notes, *notes_on_device(device, args.num_gpus))
    notes = tuple(dict.fromkeys(notes))
    asked: dict[str, Any] = {
        "found": found,
        "gpu": gpu,
        "vllm_version": vllm_version,
        "environment": environment,
        "machine": machine,
    }
    if planner == "vllm":
        return plan_by_vllm(args, **asked, notes=notes)
    try:
        return plan_standalone(args, **asked, notes=notes, sizes_at_least=planner == "standalone")
    except UnsupportedError as refusal:
        if planner == "standalone":
            raise
        from .vllm_adapter.shared import may_answer, with_reason

        weights_only = isinstance(refusal, WeightsUnknownError)
        if not may_answer(args, found, refusal):
            if weights_only:
                return plan_standalone(args, **asked, notes=notes)
            raise
        try:
            return plan_by_vllm(args, **asked, notes=with_reason(notes, refusal))
        except UnsupportedError as error:
            if weights_only:
                return plan_standalone(args, **asked, notes=notes)
            raise UnsupportedError(f"{refusal}; and vLLM cannot answer: {error}") from None


def plan_by_vllm(
    args: EngineArgs,
    *,
    found: FoundConfig,
    gpu: str | GPU | None,
    vllm_version: str | None,
    environment: EngineEnvironment | None,
    machine: Machine,
    notes: tuple[str, ...],
) -> Plan:
    """The plan of vLLM's own code; the memory is predicted where no flag says it."""
    from .memory.weights.checkpoint import check_whole
    from .vllm_adapter.budget import plan_with_budget
    from .vllm_adapter.shared import plan_with_vllm

    def ask(args: EngineArgs, stage_memory: Sequence[int] | None) -> Plan:
        return plan_with_vllm(
            args,
            found=found,
            gpu=gpu,
            vllm_version=vllm_version,
            environment=environment,
            notes=notes,
            stage_memory=stage_memory,
        )

    check_whole(found, args.load_format, None)
    return plan_with_budget(
        args,
        ask,
        found=found,
        gpu=gpu,
        environment=environment,
        machine=machine,
        vllm_version=VLLM_VERSION,
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
    sizes_at_least: bool = True,
) -> Plan:
    """The plan of vLLM's rules as restated here.

    ``sizes_at_least``: where the weights are not known, a plan without the figures that depend on
    them, instead of a refusal.
    """
    if gpu is None:
        notes = (*notes, f"no GPU given: planned for {DEFAULT_GPU}; --gpu NAME for another")
    prepared = prepare(
        args,
        found,
        gpu=gpu,
        vllm_version=vllm_version,
        environment=environment,
        machine=machine,
    )
    setup, limits = prepared.setup, prepared.limits
    try:
        memory = kv_memory(setup, found, prepared.version, machine, gpu_named=gpu is not None)
    except WeightsUnknownError as refusal:
        if not sizes_at_least:
            raise
        memory = unknown_memory(setup, refusal)
    blocks = plan_blocks(setup, memory.available, limits)
    pessimistic = blocks
    if memory.pessimistic != memory.available:
        pessimistic = plan_blocks(setup, memory.pessimistic, limits)
    return assemble(
        setup,
        found,
        memory,
        as_logged(blocks, prepared.rules, limits),
        pessimistic,
        limits,
        vllm_version=prepared.version,
        notes=(*prepared.notes, *notes),
    )


def plan_blocks(setup: EngineSetup, available: Sequence[int], limits: RequestLimits) -> KVCachePlan:
    """Divide each stage's ``available`` bytes of one GPU into blocks."""
    from .engine_args.kernel_blocks import check_kernel_blocks
    from .engine_args.kv_connector import why_hybrid_is_off

    try:
        plan = _planned_blocks(setup, available, limits)
    except NoOneKind as error:
        cause = why_hybrid_is_off(setup.args) or "--disable-hybrid-kv-cache-manager"
        raise UnsupportedError(f"{cause}: {error}") from None
    for worker in plan.workers:
        check_kernel_blocks(setup.cache, worker.groups)
    return plan


def _planned_blocks(
    setup: EngineSetup, available: Sequence[int], limits: RequestLimits
) -> KVCachePlan:
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


def engine_args_of(
    model: str, given: Mapping[str, Any], vllm_version: str | None = None
) -> EngineArgs:
    """The flags that a caller gave by vLLM's names.

    Raises:
        InputError: A value that cannot be.
        UnknownNameError: No such flag, which names the nearest, or none in that version.
    """
    try:
        args = EngineArgs(model=model, **given)
    except TypeError as error:
        from .engine_args.flag_table import unknown_argument

        raise unknown_argument(given, EngineArgs) or InputError(f"plan(): {error}") from None
    if vllm_version is not None:
        from .engine_args.older_flags import check_version

        changed = (each for each in given if getattr(args, each) != getattr(EngineArgs, each, None))
        check_version(changed, vllm_version)
    return args


def check_inputs(
    gpu: object, vllm_version: object = None, machine: object = UNKNOWN_MACHINE
) -> None:
    """Refuse what is neither a name nor one of our own objects.

    Raises:
        InputError: Which, and what it should be.
    """
    if gpu is not None and not isinstance(gpu, (str, GPU)):
        raise InputError(f"gpu: {shown(gpu)} is neither the name of a GPU nor a GPU")
    if not isinstance(machine, Machine):
        raise InputError(f"machine: {shown(machine)} is not a Machine")
    if vllm_version is None or vllm_version == VLLM_VERSION:
        return
    import re

    if not isinstance(vllm_version, str) or not re.fullmatch(
        r"v?\d{1,4}(\.\d{1,4})+([.+-]?[A-Za-z][\w.+-]{0,80})?", vllm_version, re.ASCII
    ):
        raise InputError(
            f"--vllm-version: {shown(vllm_version)} is not a version such as '0.33.0' or "
            "'0.26.1rc1'"
        )


def check_planner(planner: str) -> None:
    """Refuse planners that do not exist.

    Raises:
        InputError: No such planner.
    """
    if planner not in ("auto", "standalone", "vllm"):
        raise InputError(f"--planner {shown(planner)}: one of auto, standalone, vllm")
