"""Why a backend cannot serve a layer, in vLLM's words and order, and what is said about it.

Source: vLLM 0.33 ``v1/attention/backend.py`` ``AttentionBackend.validate_configuration``; of what
is refused when layers are built the constructors of ``FlashAttentionImpl``,
``TritonAttentionImpl``, ``TritonMLAImpl``, ``FlexAttentionImpl``, ``B12xPagedAttentionImpl``,
``FlashMLASparseImpl`` and ``FlashInferMetadataBuilder``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ...errors import nearest
from .backend import AttentionBackend
from .declaration import Declaration, Situation, holds
from .kv_dtypes import is_quantised


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
        (not runs_on(row, situation), "compute capability"),
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


def runs_on(row: Declaration, situation: Situation) -> bool:
    """Whether it has kernels for the device."""
    device = situation.capability
    return not row.runs_on or any(first <= device <= last for first, last in row.runs_on)


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


TRITON = ("TRITON_ATTN", "TRITON_ATTN_DIFFKV", "TRITON_MLA")
B12X_BLOCKS = (64, 128)


def refusal(name: str, situation: Situation) -> str | None:
    """Why the engine would stop while it builds the layer; None where it does not."""
    dtype, capability = situation.request.kv_cache_dtype, situation.capability
    device = f"this GPU has {capability[0]}.{capability[1]}"
    floats = "bfloat16" if capability >= (8, 0) else "float16"
    dcp = situation.facts.decode_context_parallel_size > 1
    checks = (
        (
            name in TRITON and dtype.startswith("fp8") and capability < (8, 9),
            f"--kv-cache-dtype {dtype}: {name} needs compute capability 8.9 for fp8 and {device}; "
            f"use --kv-cache-dtype {floats}",
        ),
        (
            name in TRITON and dtype == "bfloat16" and capability < (8, 0),
            f"--kv-cache-dtype bfloat16 needs compute capability 8.0 and {device}; "
            "use --kv-cache-dtype float16",
        ),
        (
            name == "FLASH_ATTN" and situation.facts.alibi and is_quantised(dtype),
            f"--kv-cache-dtype {dtype}: FlashAttention runs ALiBi, as this model has it, in "
            "version 2, which has no quantised KV cache; use --kv-cache-dtype auto",
        ),
        (
            name == "FLASHINFER"
            and dcp
            and dtype.startswith("nvfp4")
            and capability[0] in (8, 9, 12),
            f"--kv-cache-dtype {dtype} cannot be combined with decode context parallel here",
        ),
        (
            name == "FLASHMLA_SPARSE" and dcp and not is_quantised(dtype),
            "DCP for FlashMLA sparse requires an fp8_ds_mla kv-cache; use --kv-cache-dtype fp8 or "
            "--decode-context-parallel-size 1",
        ),
        (
            name == "FLEX_ATTENTION" and situation.facts.logits_soft_cap,
            "--attention-backend FLEX_ATTENTION cannot cap attention logits, as this model does",
        ),
        (
            name == "B12X" and situation.block_size not in B12X_BLOCKS,
            "--attention-backend B12X needs --block-size 64 or 128",
        ),
    )
    return next((message for applies, message in checks if applies), None)


def unknown_backend(name: str, known: Iterable[str]) -> str:
    """Nobody knows this ``--attention-backend``."""
    names = sorted(name for name in known if not name.startswith(("CPU_", "AMX_")))
    near = nearest(name.upper(), names) or names
    return f"--attention-backend {name}: not a CUDA backend of vLLM 0.33; try {', '.join(near)}"


def not_valid(name: str, situation: Situation, reasons: Sequence[str]) -> str:
    """The backend that was asked for, by the user or the model's config, turns the layer down."""
    return (
        f"attention backend {name}, asked for by --attention-backend or by the model, cannot run "
        f"{describe(situation)}: {'; '.join(reasons)}"
    )


def none_valid(situation: Situation, against: Mapping[str, Sequence[str]]) -> str:
    """Every backend turns the layer down: what all of them lack, or the nearest misses."""
    shared = [
        reason
        for reason in next(iter(against.values()))
        if all(reason in reasons for reasons in against.values())
    ]
    if shared:
        why = "; ".join(shared)
    else:
        fewest = min(len(reasons) for reasons in against.values())
        nearest: dict[str, list[str]] = {}
        for name, reasons in against.items():
            if len(reasons) == fewest:
                nearest.setdefault(", ".join(reasons), []).append(name)
        why = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in nearest.items())
    return f"no attention backend of vLLM 0.33 runs {describe(situation)}: {why}"


def describe(situation: Situation) -> str:
    """The layer and the device, as far as backends care."""
    request, (major, minor) = situation.request, situation.capability
    needs = [f"head_size {request.head_size}", f"dtype {request.dtype}"]
    needs.append(f"kv_cache_dtype {request.kv_cache_dtype}")
    if situation.block_size is not None:
        needs.append(f"block_size {situation.block_size}")
    wanted = (
        (request.use_sparse, "sparse MLA"),
        (request.use_mla and not request.use_sparse, "MLA"),
        (request.has_sink, "attention sinks"),
        (request.use_mm_prefix, "bidirectional image tokens"),
        (request.has_sliding_window, "a sliding window"),
        (request.attn_type != "decoder", f"{request.attn_type} attention"),
        (situation.facts.decode_context_parallel_size > 1, "decode context parallel"),
    )
    needs.extend(what for needed, what in wanted if needed)
    return f"a layer with {', '.join(needs)} on compute capability {major}.{minor}"
