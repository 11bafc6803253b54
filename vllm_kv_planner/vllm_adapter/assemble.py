"""Put the child's answer together as a ``Plan``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..planning.types import (
    DOES_NOT_FIT,
    FITS,
    EngineInfo,
    GPUInfo,
    GroupInfo,
    KVCacheInfo,
    MemoryInfo,
    ModelInfo,
    Plan,
    PlannerInfo,
)
from ..version import __version__

WEIGHTS = (
    "parameters and buffers of vLLM's own model class on this rank, draft model included, before "
    "process_weights_after_loading"
)


def assemble(
    answer: dict[str, Any],
    *,
    model_id: str,
    config_source: str,
    revision: str | None,
    gpu_name: str,
    gpu_total_bytes: int | None,
    notes: Sequence[str],
) -> Plan:
    """The plan as the contract has it."""
    memory = answer["memory"]
    return Plan(
        planner=PlannerInfo(name="vllm", version=__version__, vllm_version=answer["vllm_version"]),
        model=ModelInfo(
            id=model_id,
            architecture=answer["architecture"],
            config_source=config_source,
            revision=revision,
            num_layers=answer["num_layers"],
        ),
        gpu=GPUInfo(name=gpu_name, total_memory_bytes=gpu_total_bytes, num_gpus=answer["num_gpus"]),
        engine=EngineInfo(**answer["engine"]),
        memory=MemoryInfo(
            requested_bytes=memory["requested_bytes"],
            weights_bytes=memory["weights_bytes"],
            activation_peak_bytes=None,
            cuda_graph_bytes=None,
            non_torch_bytes=None,
            available_kv_cache_bytes=memory["available_kv_cache_bytes"],
            uncertainty_bytes=0 if memory["requested_bytes"] is None else None,
            provenance={
                "available_kv_cache_bytes": memory["provenance"],
                "weights_bytes": WEIGHTS,
            },
        ),
        kv_cache=KVCacheInfo(
            **answer["kv_cache"], groups=tuple(GroupInfo(**group) for group in answer["groups"])
        ),
        verdict=FITS if answer["fits"] else DOES_NOT_FIT,
        limits=tuple(answer.get("refusals", ())),
        fits=answer["fits"],
        notes=(*answer["notes"], *notes),
    )
