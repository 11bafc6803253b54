"""What a chosen backend still refuses when its layers are built.

Source: vLLM 0.33, constructors of ``FlashAttentionImpl``, ``TritonAttentionImpl``,
``TritonMLAImpl``, ``FlexAttentionImpl``, ``B12xPagedAttentionImpl``, ``FlashMLASparseImpl`` and
``FlashInferMetadataBuilder``.
"""

from __future__ import annotations

from .facts import Situation
from .quantisation import is_quantised

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
