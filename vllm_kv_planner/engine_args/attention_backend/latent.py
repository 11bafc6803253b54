"""What backends for latents (MLA) and for indexers refuse, and their blocks.

Dimensions that are not known (None) are not held against a backend.

Source: vLLM 0.33, ``supports_combination`` of the classes in ``v1/attention/backends/mla/``.
"""

from __future__ import annotations

from .declaration import AITER, KernelBlocks, KernelQuestion, Situation, exactly, multiple_of
from .kv_dtypes import is_quantised


def hopper_only(situation: Situation) -> str | None:
    """FlashAttention's latent kernels."""
    return None if situation.capability[0] == 9 else "its kernels run on Hopper only"


def flashmla(situation: Situation) -> str | None:
    """Dense FlashMLA; vLLM probes the sparse kernels where the layer is sparse."""
    sparse = situation.request.use_sparse and situation.capability[0] == 10
    return None if sparse else hopper_only(situation)


def flashinfer(situation: Situation) -> str | None:
    """Head widths that FlashInfer's latent kernels were built for."""
    width = situation.facts.qk_nope_head_dim
    if width not in (None, 64, 128, 192):
        return f"qk_nope_head_dim {width} is none of 64, 128, 192"
    return None


def tokenspeed(situation: Situation) -> str | None:
    """DeepSeek-R1's widths and no others."""
    facts = situation.facts
    widths = (facts.qk_nope_head_dim, facts.qk_rope_head_dim, facts.v_head_dim)
    if any(width not in (None, want) for width, want in zip(widths, (128, 64, 128), strict=True)):
        return "only head widths 128 + 64 with values of 128"
    return None


def flash_attn_sparse(situation: Situation) -> str | None:
    """FlashAttention 3's sparse kernel."""
    if is_quantised(situation.request.kv_cache_dtype):
        return "only a float16 or bfloat16 KV cache"
    if situation.capability[0] != 9:
        return hopper_only(situation)
    if situation.facts.decode_context_parallel_size > 1:
        return "no decode context parallel"
    return None


def flashinfer_sparse(situation: Situation) -> str | None:
    """TRTLLM's sparse kernel on Blackwell."""
    facts = situation.facts
    if facts.prefill_context_parallel_size > 1 and facts.decode_context_parallel_size > 1:
        return "no prefill and decode context parallel together"
    if situation.request.kv_cache_dtype == "fp8_ds_mla":
        return "no fp8_ds_mla KV cache on Blackwell"
    nope, rope, rank = facts.qk_nope_head_dim, facts.qk_rope_head_dim, facts.kv_lora_rank
    if rope == 0:
        if nope not in (None, 256) or rank not in (None, 512):
            return f"without rope only widths 256 and 512, not {nope} and {rank}"
    elif nope not in (None, 128, 192):
        return f"qk_nope_head_dim {nope} is neither 128 nor 192"
    return None


def flash_attn_4_sparse(situation: Situation) -> str | None:
    """FlashAttention 4's sparse kernel, with TRTLLM's for prefill."""
    facts = situation.facts
    if situation.capability[0] not in (9, 10, 11):
        return "FlashAttention 4 does not run on this device"
    if facts.index_topk is not None and facts.index_topk % 128 != 0:
        return f"index_topk {facts.index_topk} is no multiple of 128"
    dims = (facts.kv_lora_rank, facts.qk_rope_head_dim)
    if any(width not in (None, want) for width, want in zip(dims, (512, 64), strict=True)):
        return "only a latent of 512 with a rope of 64"
    dcp = facts.decode_context_parallel_size
    allowed = (8, 16, 32, 64) if dcp > 1 else (8, 16, 32, 64, 128)
    heads = facts.num_attention_heads * dcp
    if heads not in allowed:
        return f"{heads} query heads are none of {', '.join(map(str, allowed))}"
    return flashinfer_sparse(situation)


def flashinfer_sparse_sm120(situation: Situation) -> str | None:
    """FlashInfer's sparse kernel on compute capability 12.x."""
    topk = situation.facts.index_topk
    return None if topk in (None, 2048) else f"index_topk must be 2048, not {topk}"


def flashinfer_sparse_sm90(situation: Situation) -> str | None:
    """FlashInfer's sparse kernel on Hopper."""
    facts = situation.facts
    if not situation.request.use_sparse:
        return "only sparse MLA"
    if facts.kv_lora_rank not in (None, 512):
        return "only a latent of 512"
    return None if facts.qk_rope_head_dim in (None, 0, 64) else "only a rope of 64 or none"


def flashmla_sparse(situation: Situation) -> str | None:
    """FlashMLA's sparse kernel: 512 wide only for models without rope, on Hopper."""
    request, major = situation.request, situation.capability[0]
    if request.head_size == 512:
        unpacked = request.kv_cache_dtype in ("auto", "bfloat16", "float16", "fp8_ds_mla")
        if major != 9 or not unpacked:
            return "head_size 512 only on Hopper with a bfloat16 or fp8_ds_mla KV cache"
        if situation.facts.qk_rope_head_dim not in (None, 0):
            return "head_size 512 only for models without rope"
    if request.kv_cache_dtype == "nvfp4_ds_mla" and major != 10:
        return "nvfp4_ds_mla only on Blackwell (compute capability 10.x)"
    return None


def flashmla_sparse_blocks(question: KernelQuestion) -> KernelBlocks:
    """Pages of exactly 64 where a quantised layer's spec is asked about on Blackwell."""
    if (
        question.facts is None
        and is_quantised(question.kv_cache_dtype)
        and question.capability[0] == 10
    ):
        return exactly(64)
    return multiple_of(64)


def deepseek_v4_flashinfer(situation: Situation) -> str | None:
    """DeepSeek-V4's FlashInfer kernels: plain rows on Blackwell, packed ones on 12.x."""
    dtype, major = situation.request.kv_cache_dtype, situation.capability[0]
    plain = ("auto", "bfloat16", "fp8", "fp8_e4m3")
    packed = ("fp8", "fp8_e4m3", "fp8_ds_mla")
    if major not in (10, 12):
        return "only on compute capability 10.x and 12.x"
    return None if dtype in (plain if major == 10 else packed) else "kv_cache_dtype not supported"


def pooled_indexer_blocks(question: KernelQuestion) -> KernelBlocks:
    """GLM-5.3's indexer keeps one row for several tokens; kernels take 32 or 64 rows."""
    rows = (64,) if question.capability[0] == 12 else (32, 64)
    facts = question.facts
    pool = question.tokens_per_state
    if pool is None:
        pool = 1 if facts is None or facts.index_kpool is None else facts.index_kpool
    return exactly(*(pool * count for count in rows))


def v41_blocks(question: KernelQuestion) -> KernelBlocks:
    """DeepSeek-V4.1: half the block on Hopper."""
    return exactly(64 if question.capability[0] == 9 else 128)


def aiter_sink(situation: Situation) -> bool:
    """AITER's sparse kernels, on CDNA 3 and 4."""
    return situation.capability in AITER
