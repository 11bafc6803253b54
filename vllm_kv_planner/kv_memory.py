"""What every rank has for its KV cache: given by the user, or predicted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .engine_args.setup import EngineSetup
from .errors import InputError, UnsupportedError
from .machine import UNKNOWN_MACHINE, Machine
from .plan_types import MemoryInfo
from .records import dataclass
from .units import GIB, gib

if TYPE_CHECKING:
    from .memory.weights import WeightsEstimate
    from .model.find import FoundConfig


@dataclass(frozen=True, kw_only=True)
class KVMemory:
    """KV memory of one GPU of each pipeline stage, in bytes.

    Attributes:
        info: The parts, of the tightest rank.
        available: What is left, a figure for every stage.
        pessimistic: The same if every part is as large as it may be.
        refusal: Why the engine would not come as far as its KV cache; None where it does.
        doubt: Why it may not; None where it surely does.
        notes: Sentences for the reader.
    """

    info: MemoryInfo
    available: tuple[int, ...]
    pessimistic: tuple[int, ...]
    refusal: str | None = None
    doubt: str | None = None
    notes: tuple[str, ...] = ()


def kv_memory(
    setup: EngineSetup,
    found: FoundConfig,
    vllm_version: str,
    machine: Machine = UNKNOWN_MACHINE,
) -> KVMemory:
    """The memory that ``--kv-cache-memory-bytes`` gives, else what the budget leaves.

    Source: vLLM 0.33 ``v1/worker/gpu_worker.py`` ``determine_available_memory``,
    ``multimodal/gpu_ipc_memory.py`` ``reserve_mm_ipc_gpu_memory``.
    """
    args = setup.args
    stages = len(setup.cache.stages)
    if args.kv_cache_memory_bytes is not None:
        reserve = int(args.mm_ipc_gpu_memory_gb * GIB) if setup.model.is_multimodal else 0
        given = args.kv_cache_memory_bytes - reserve
        return KVMemory(
            info=known_only(given, "--kv-cache-memory-bytes"),
            available=(given,) * stages,
            pessimistic=(given,) * stages,
        )
    if not any(setup.cache.stages):
        nothing = (0,) * stages
        info = known_only(0, "the model keeps no KV cache")
        return KVMemory(info=info, available=nothing, pessimistic=nothing)
    return predicted(setup, weights_of(setup, found, vllm_version), vllm_version, machine)


def known_only(available: int, source: str) -> MemoryInfo:
    """Parts where nothing but the KV memory is known."""
    return MemoryInfo(
        requested_bytes=None,
        weights_bytes=None,
        activation_peak_bytes=None,
        cuda_graph_bytes=None,
        non_torch_bytes=None,
        available_kv_cache_bytes=available,
        uncertainty_bytes=0,
        provenance={"available_kv_cache_bytes": source},
    )


def weights_of(setup: EngineSetup, found: FoundConfig, vllm_version: str) -> WeightsEstimate:
    """Weights from the shapes of vLLM's layers; from the checkpoint where no rule knows them.

    Raises:
        InputError: A hand-made model, of which only the cache is described.
        UnsupportedError: No rule for the architecture, and no checkpoint at hand.
    """
    from .memory.weights.remembered import remembered_weights

    if found.source == "custom":
        raise InputError(
            "a hand-made model's weights are not known: give the memory left for its KV cache with "
            "--kv-cache-memory-bytes N (bytes of one GPU, such as 40G)"
        )
    major, minor = vllm_version.split(".")[:2]
    try:
        return remembered_weights(setup, (int(major), int(minor)))
    except UnsupportedError as refusal:
        from .memory.weights.checkpoint import checkpoint_weights
        from .memory.weights.headers import hub_headers, local_headers
        from .model.find import is_offline

        headers = None
        if found.source in ("local", "hf-cache") and found.path is not None:
            headers = local_headers(os.path.dirname(found.path))
        if headers is None and found.source in ("hub", "hf-cache") and not is_offline():
            headers = hub_headers(found.id, found.revision or "main")
        if headers is None:
            raise UnsupportedError(
                f"{refusal}; --kv-cache-memory-bytes N plans without predicting the memory"
            ) from None
        model = setup.model
        # HRM runs the layers of two stacks many times; the checkpoint has each once
        stored = model.text_config.get("num_layers_per_stack", model.num_hidden_layers)
        return checkpoint_weights(headers, setup.args, layers=stored)


def predicted(
    setup: EngineSetup, weights: WeightsEstimate, vllm_version: str, machine: Machine
) -> KVMemory:
    """The budget: requested memory less weights, activation peak, graphs and the rest."""
    from .memory.budget import Weights, memory_budget

    known = machine.calibration
    seen = None if known is None else known.weights(setup, vllm_version)
    budget = memory_budget(
        setup,
        lambda stage: (
            Weights(
                size_bytes=weights.loaded_bytes[stage],
                uncertainty_bytes=weights.uncertainty_bytes,
                how=weights.provenance,
            )
            if seen is None
            else seen
        ),
        vllm_version=vllm_version,
        free_memory_bytes=machine.free_memory_bytes,
        other_processes_bytes=machine.other_processes_bytes,
        overheads=None if known is None else known.overheads(vllm_version),
    )
    info = MemoryInfo(
        requested_bytes=budget.requested_bytes,
        weights_bytes=budget.weights_bytes,
        activation_peak_bytes=budget.activation_peak_bytes,
        cuda_graph_bytes=budget.cuda_graph_bytes,
        non_torch_bytes=budget.non_torch_bytes,
        available_kv_cache_bytes=budget.available_kv_cache_bytes,
        uncertainty_bytes=budget.uncertainty_bytes,
        provenance=dict(budget.provenance),
    )
    return KVMemory(
        info=info,
        available=tuple(rank.available_bytes for rank in budget.ranks),
        pessimistic=tuple(rank.pessimistic_bytes for rank in budget.ranks),
        refusal=None
        if budget.starts
        else (
            f"free memory at start ({gib(budget.free_at_start_bytes)}) is less than the engine "
            f"asks for ({gib(budget.requested_bytes)}): lower --gpu-memory-utilization"
            + would_start(budget.free_at_start_bytes, setup.gpu.total_memory_bytes)
        ),
        doubt=None
        if budget.starts_surely
        else "what the start takes after the KV cache may not find room on the GPU",
        notes=weights.notes,
    )


def would_start(free: int, total: int) -> str:
    """The largest utilization, in hundredths, whose share of ``total`` is free."""
    share = int(100 * free / total) / 100 if total > 0 else 0.0
    return f" to {share:.2f}" if share > 0 else ""
