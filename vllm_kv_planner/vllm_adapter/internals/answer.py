"""vLLM's objects as the plain values a ``Plan`` is made of."""

from __future__ import annotations

import re
from typing import Any

from .engine import EngineReport
from .names import is_tested, version


def plan_values(vllm_config: Any, report: EngineReport, notes: list[str]) -> dict[str, Any]:
    """Everything the parent process needs for its ``Plan``, ready for JSON."""
    model, parallel = vllm_config.model_config, vllm_config.parallel_config
    tightest = min(
        range(len(report.ranks)),
        key=lambda i: (report.num_blocks[i], -report.bytes_per_block[i]),
    )
    groups = report.configs[tightest].kv_cache_groups
    memory = report.memory
    notes = [*notes, *report.refusals]
    if memory.note is not None:
        notes.append(memory.note)
    return {
        "vllm_version": version(),
        "tested": is_tested(),
        "architecture": str(model.architecture),
        "num_layers": int(model.get_total_num_hidden_layers()),
        "num_gpus": parallel.world_size * parallel.data_parallel_size,
        "engine": engine_values(vllm_config, report),
        "memory": {
            "requested_bytes": memory.requested_bytes,
            "weights_bytes": report.ranks[tightest].weights_bytes,
            "available_kv_cache_bytes": report.available[tightest],
            "provenance": memory.provenance,
        },
        "kv_cache": {
            "bytes_per_token": bytes_per_token(groups, parallel.decode_context_parallel_size),
            "bytes_per_block": report.bytes_per_block[tightest],
            "num_gpu_blocks": report.num_gpu_blocks,
            "kv_cache_size_tokens": report.kv_cache_size_tokens,
            "max_concurrency": report.max_concurrency,
            "max_model_len_that_fits": report.max_model_len_that_fits,
        },
        "groups": [group_values(group, vllm_config) for group in groups],
        "fits": not report.refusals,
        "refusals": report.refusals,
        "notes": notes,
    }


def engine_values(vllm_config: Any, report: EngineReport) -> dict[str, Any]:
    """The engine's settings as vLLM resolved them."""
    model, cache = vllm_config.model_config, vllm_config.cache_config
    scheduler, parallel = vllm_config.scheduler_config, vllm_config.parallel_config
    speculative = vllm_config.speculative_config
    backends = dict.fromkeys(name for rank in report.ranks for name in rank.backends)
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "kv_cache_dtype": report.ranks[0].kv_cache_dtype,
        "block_size": int(cache.block_size),
        "max_model_len": int(model.max_model_len),
        "max_num_seqs": scheduler.max_num_seqs,
        "max_num_batched_tokens": scheduler.max_num_batched_tokens,
        "gpu_memory_utilization": cache.gpu_memory_utilization,
        "tensor_parallel_size": parallel.tensor_parallel_size,
        "pipeline_parallel_size": parallel.pipeline_parallel_size,
        "data_parallel_size": parallel.data_parallel_size,
        "decode_context_parallel_size": parallel.decode_context_parallel_size,
        "enforce_eager": bool(model.enforce_eager),
        "enable_prefix_caching": bool(cache.enable_prefix_caching),
        "quantization": None if model.quantization is None else str(model.quantization),
        "attention_backend": ", ".join(backends) or None,
        "speculative": None if speculative is None else str(speculative.method),
    }


def group_values(group: Any, vllm_config: Any) -> dict[str, Any]:
    """One group of the tightest rank, pages as vLLM's group spec says."""
    spec = group.kv_cache_spec
    if hasattr(spec, "max_memory_usage_pages"):  # layers of different shape in one group
        blocks = spec.max_memory_usage_pages(vllm_config)
    else:
        blocks = -(-spec.max_memory_usage_bytes(vllm_config) // spec.page_size_bytes)
    return {
        "kind": kind(layer_specs(group)[0]),
        "num_layers": len(group.layer_names),
        "block_size": spec.block_size,
        "page_size_bytes": spec.page_size_bytes,
        "blocks_per_request": int(blocks),
    }


def layer_specs(group: Any) -> list[Any]:
    """The spec of every layer of the group; the group's own where it has no layer here."""
    spec = group.kv_cache_spec
    inner = getattr(spec, "kv_cache_specs", None)
    if inner:
        return list(inner.values())
    return [spec] * max(len(group.layer_names), 1)


def kind(spec: Any) -> str:
    """``SlidingWindowMLASpec`` as ``sliding_window_mla``: vLLM's class name in our spelling."""
    name = type(spec).__name__.removesuffix("Spec").replace("MLA", "Mla")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


# Kinds whose cache grows with the request; windows, chunks, states and rings do not.
_GROWING = {"full_attention", "mla_attention", "sink_full_attention", "hidden_state_cache"}


def bytes_per_token(groups: list[Any], decode_context_parallel_size: int) -> int:
    """Bytes of one more token of context: the layers whose cache grows with it, unpadded."""
    total = 0
    for group in groups:
        if not group.layer_names:
            continue
        for spec in layer_specs(group):
            if kind(spec) in _GROWING:
                page = getattr(spec, "unpadded_page_size_bytes", None) or spec.page_size_bytes
                ranks = decode_context_parallel_size if getattr(spec, "dcp_sharded", True) else 1
                total += -(-page // (spec.block_size * ranks))
    return total
