"""The start of a log, planned as its version of vLLM would have done it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config.find import find_config
from ..engine_args.engine_args import EngineArgs, EngineEnvironment
from ..engine_args.flag_table import all_flags, todays_keys
from ..engine_args.setup import EngineSetup, described, resolve_setup
from ..engine_args.value_types import known_part
from ..engine_args.versions import FIRST
from ..errors import InputError, PlannerError, UnsupportedError
from ..gpu.catalogue import SAME_DEVICE, custom_gpu, find_gpu, may_be
from ..gpu.gpu import GPU
from ..kv_cache.capacity import KVCachePlan, Worker, plan_kv_cache
from ..logs.start_log import StartLog
from ..memory.budget import MemoryBudget, memory_budget
from ..memory.overheads import Overheads
from ..memory.rank_budget import Weights
from ..memory.versions import VersionRules, version_rules
from ..memory.weights import WeightsEstimate, setup_weights
from ..planning.standalone import longest_worth_trying
from ..planning.versions import as_built, as_logged, request_limits
from ..records import dataclass

if TYPE_CHECKING:
    from ..calibration.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What would have been said of the engine before it started.

    Attributes:
        version: vLLM's, as the rules take it.
        setup: The engine.
        weights: Weights of every stage's rank; None where they are not known.
        budget: The memory budget; None where it has no rules.
        blocks: The predicted KV memory in blocks.
        at_actual: The blocks of the KV memory that the engine says it had.
        notes: What was taken for granted, and what could not be predicted.
    """

    version: str
    setup: EngineSetup
    weights: WeightsEstimate | None
    budget: MemoryBudget | None
    blocks: KVCachePlan | None
    at_actual: KVCachePlan | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Given:
    """What fills the gaps of a log: the flags ``--gpu``, ``--model`` and ``--vllm-version``."""

    gpu: GPU | None = None
    model: str | None = None
    version: str | None = None


def predict(log: StartLog, given: Given, calibration: Calibration | None = None) -> Prediction:
    """Plan the engine of a log.

    Raises:
        PlannerError: The log does not say enough, or the engine cannot be planned; says which.
    """
    version = given.version or log.version
    if version is None:
        raise InputError("the log does not state vLLM's version: --vllm-version V")
    model = given.model or log.model
    if model is None:
        raise InputError("the log does not name the model: --model ID")
    device, notes = device_of(log, given)
    if calibration is not None:
        device = calibration.device(device)
        notes += calibration.notes
    setup = setup_of(log, version, model, device)
    weights: WeightsEstimate | None = None
    budget: MemoryBudget | None = None
    try:
        weights = setup_weights(setup, version=rules_of(version).version)
        seen = None if calibration is None else calibration.weights(setup, version)
        overheads = None if calibration is None else calibration.overheads(version)
        budget = budget_of(setup, seen or weights, version, overheads)
    except UnsupportedError as refusal:
        notes.append(f"not predicted: {refusal}")
    actual = log.kv_bytes
    stages = len(setup.cache.stages)
    predicted = None if budget is None else [rank.available_bytes for rank in budget.ranks]
    return Prediction(
        version=version,
        setup=setup,
        weights=weights,
        budget=budget,
        blocks=None if predicted is None else blocks_of(setup, predicted, version),
        at_actual=None if actual is None else blocks_of(setup, [actual] * stages, version),
        notes=tuple(notes),
    )


def device_of(log: StartLog, given: Given) -> tuple[GPU, list[str]]:
    """The log's GPU; with the log's total where that is another size than the catalogue's."""
    total = log.size("total")
    if log.on_cpu:
        raise UnsupportedError(
            "the log is of vLLM's CPU build, where KV memory is what VLLM_CPU_KVCACHE_SPACE says "
            "and nothing is predicted; plan --planner vllm --gpu cpu asks that build for its blocks"
        )
    if given.gpu is None and log.gpu is None:
        stated = "" if total is None else f" (its memory: {total / (1 << 30):.2f} GiB)"
        raise InputError(f"the log does not name the GPU{stated}: --gpu NAME")
    gpu = given.gpu or find_gpu(log.gpu or "")
    known = gpu.total_memory_bytes
    if given.gpu is not None and total is not None and total > known * (1 + SAME_DEVICE):
        raise InputError(
            f"the log's GPU has {total / (1 << 30):.2f} GiB, --gpu {gpu.short_name} has "
            f"{known / (1 << 30):.2f}: it ran on another device"
        )
    if given.gpu is not None and log.gpu is not None and not may_be(given.gpu, log.gpu):
        raise InputError(
            f"the log is of {log.gpu[:60]}, --gpu names {gpu.short_name}: it ran on another device"
        )
    if total is None or abs(total - known) <= known * SAME_DEVICE:
        return gpu, []
    shown = f"{total / (1 << 30):.2f} GiB"
    return custom_gpu(total, like=gpu), [
        f"the log's GPU has {shown}, not {known / (1 << 30):.2f}: a slice or another size; "
        f"planned with --gpu-memory {shown.replace(' ', '')}"
    ]


def setup_of(log: StartLog, version: str, model: str, gpu: GPU) -> EngineSetup:
    """The engine with its flags as the log states them and its version's defaults."""
    found = find_config(model)
    flags = engine_flags(log)
    flags["model"] = found.id
    rules = rules_of(version)
    flags.update(_todays_configs(flags, version))
    share = log.value("utilization") or rules.default_gpu_memory_utilization
    flags.setdefault("gpu_memory_utilization", share)
    try:
        args = EngineArgs(**flags)
        description = as_built(described(found, args), rules)
        if description.is_hybrid and not rules.hybrids_cache_prefixes:
            flags.setdefault("enable_prefix_caching", False)
            args = EngineArgs(**flags)
        return resolve_setup(args, description, gpu, environment_of(log))
    except TypeError as error:
        raise InputError(f"the log's flags cannot be read: {error}") from None


def engine_flags(log: StartLog) -> dict[str, Any]:
    """The flags given, and those the engine's own config had settled where none was given."""
    settled = dict(log.settled)
    # what the checkpoint says of itself is no flag, and a row layout is no dtype to ask for
    settled.pop("quantization", None)
    if str(settled.get("kv_cache_dtype", "")).endswith("_ds_mla"):
        del settled["kv_cache_dtype"]
    flags = {**settled, **log.arguments}
    steps = log.value("tokens_a_step")
    if steps is not None:
        flags.setdefault("max_num_batched_tokens", int(steps))
    length = log.value("length")
    if length is not None:
        flags.setdefault("max_model_len", int(length))
    if log.backend is not None and log.backend not in ("XFORMERS", "TORCH_SDPA"):
        flags.setdefault("attention_backend", log.backend)
    if log.version is not None and not log.is_server and log.arguments:
        flags["usage_context"] = "llm"
    return flags


def _todays_configs(flags: dict[str, Any], version: str) -> dict[str, Any]:
    """JSON objects of an older log without the keys that 0.33 does not have."""
    return {
        flag.field: known_part(flag, todays_keys(flag.spellings[0], value, version, []))
        for flag in all_flags()
        if flag.keys and isinstance(value := flags.get(flag.field), dict)
    }


def environment_of(log: StartLog) -> EngineEnvironment:
    """The runner, where the log says which one ran."""
    return EngineEnvironment(use_v2_model_runner=None if log.runner is None else log.runner == "V2")


def rules_of(version: str) -> VersionRules:
    """The version's rules; of older ones those of the oldest that is known."""
    try:
        return version_rules(version)
    except UnsupportedError:
        return VersionRules(FIRST)


def budget_of(
    setup: EngineSetup,
    weights: WeightsEstimate | Weights,
    version: str,
    overheads: Overheads | None,
) -> MemoryBudget:
    """The budget by the version's rules."""

    def of_stage(stage: int) -> Weights:
        if isinstance(weights, Weights):
            return weights
        return Weights(
            size_bytes=weights.loaded_bytes[stage],
            uncertainty_bytes=weights.uncertainty_bytes,
            how=weights.provenance,
        )

    return memory_budget(setup, of_stage, vllm_version=version, overheads=overheads)


def blocks_of(setup: EngineSetup, available: list[int], version: str) -> KVCachePlan | None:
    """The KV memory in blocks, counted as the version's log does; None where they do not divide."""
    rules = rules_of(version)
    try:
        plan = plan_kv_cache(
            [
                Worker(layers=layers, available_bytes=memory)
                for layers, memory in zip(setup.cache.stages, available, strict=True)
            ],
            request_limits(setup, rules),
            layout=setup.cache.layout,
            model_max_len=longest_worth_trying(setup),
            auto_fit=setup.resolved.length.auto_fit,
            num_gpu_blocks_override=setup.args.num_gpu_blocks_override,
            hybrid_kv_cache_manager=not setup.resolved.disable_hybrid_kv_cache_manager,
        )
    except PlannerError:
        return None
    return as_logged(plan, rules, setup.limits)
