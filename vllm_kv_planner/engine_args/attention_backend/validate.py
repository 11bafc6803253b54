"""Why a backend cannot serve a layer, in vLLM's words and order.

Source: vLLM 0.33 ``v1/attention/backend.py`` ``AttentionBackend.validate_configuration``.
"""

from __future__ import annotations

from collections.abc import Iterator

from .backend import AttentionBackend
from .declaration import Declaration, holds
from .facts import Situation


def reasons_against(backend: AttentionBackend, situation: Situation) -> list[str]:
    """Everything that keeps the backend from serving the layer; empty where nothing does."""
    row = backend.declaration
    reasons = [f"{what} not supported" for what in missing(row, backend, situation)]
    combination = row.combination(situation) if row.combination else None
    return reasons if combination is None else [*reasons, combination]


def missing(row: Declaration, backend: AttentionBackend, situation: Situation) -> Iterator[str]:
    """What the layer needs and the backend lacks."""
    request, facts = situation.request, situation.facts
    block_size = situation.block_size
    dcp = facts.decode_context_parallel_size > 1
    checks = (
        (not has_head_size(row, situation), "head_size"),
        (request.dtype not in row.dtypes, "dtype"),
        (not has_kv_cache_dtype(row, situation), "kv_cache_dtype"),
        (block_size is not None and not backend.supports_block_size(block_size), "block_size"),
        (
            request.use_mm_prefix and not holds(row.mm_prefix, situation),
            "partial multimodal token full attention",
        ),
        (request.use_mla != row.mla, "MLA" if request.use_mla else "non-MLA"),
        (request.has_sink and not holds(row.sink, situation), "attention sinks"),
        (request.use_sparse != row.sparse, "sparse" if request.use_sparse else "non-sparse"),
        (
            request.use_per_head_quant_scales and not holds(row.per_head_scales, situation),
            "per-head quant scales",
        ),
        (not row.runs_on(situation.capability), "compute capability"),
        (request.attn_type not in row.attn_types, f"attention type {request.attn_type}"),
        (request.has_sliding_window and not row.sliding_window, "sliding window"),
        (request.use_rswa and not row.rswa, "R-SWA"),
        (request.use_non_causal and not row.non_causal, "non-causal attention"),
        (
            request.use_mla and request.use_non_causal and dcp and not row.non_causal_dcp,
            "non-causal MLA attention with DCP",
        ),
        (facts.prefill_context_parallel_size > 1 and not row.pcp, "PCP"),
        (dcp and not row.dcp, "DCP"),
    )
    return (what for lacks, what in checks if lacks)


def has_head_size(row: Declaration, situation: Situation) -> bool:
    """By the backend's rule, or by its list."""
    size = situation.request.head_size
    if row.head_size_rule is not None:
        return row.head_size_rule(size, situation.capability)
    return not row.head_sizes or size in row.head_sizes


def has_kv_cache_dtype(row: Declaration, situation: Situation) -> bool:
    """By the backend's rule, or by its list."""
    if row.kv_cache_dtype_rule is not None:
        return row.kv_cache_dtype_rule(situation)
    return situation.request.kv_cache_dtype in row.kv_cache_dtypes
