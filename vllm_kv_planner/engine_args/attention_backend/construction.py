"""What a chosen backend still refuses when its layers are built.

Source: vLLM 0.33: ``TritonAttentionImpl.__init__``, ``TritonMLAImpl.__init__``,
``FlashInferMetadataBuilder.__init__``, ``FlashMLASparseImpl.__init__``.
"""

from __future__ import annotations

from .facts import Situation

TRITON = ("TRITON_ATTN", "TRITON_ATTN_DIFFKV", "TRITON_MLA")


def refusal(name: str, situation: Situation) -> str | None:
    """Why the engine would stop while it builds the layer; None where it does not."""
    (major, minor), dtype = situation.capability, situation.request.kv_cache_dtype
    plain = "bfloat16" if situation.capability >= (8, 0) else "float16"
    if name in TRITON and dtype.startswith("fp8") and situation.capability < (8, 9):
        return (
            f"--kv-cache-dtype {dtype}: {name} needs compute capability 8.9 for fp8 and this GPU "
            f"has {major}.{minor}; use --kv-cache-dtype {plain}"
        )
    if name in TRITON and dtype == "bfloat16" and situation.capability < (8, 0):
        return (
            "--kv-cache-dtype bfloat16 needs compute capability 8.0 and this GPU has "
            f"{major}.{minor}; use --kv-cache-dtype float16"
        )
    dcp = situation.facts.decode_context_parallel_size > 1
    if name == "FLASHINFER" and dcp and dtype.startswith("nvfp4") and major in (8, 9, 12):
        return f"--kv-cache-dtype {dtype} cannot be combined with decode context parallel here"
    if name == "FLASHMLA_SPARSE" and dcp and dtype in ("auto", "float16", "bfloat16"):
        return (
            "DCP for FlashMLA sparse requires an fp8_ds_mla kv-cache; use --kv-cache-dtype fp8 or "
            "--decode-context-parallel-size 1"
        )
    return None
