"""What backends for keys and values take: FlashAttention's versions, FlashInfer, Triton.

FlashInfer's kernels are taken to be there, prebuilt or to be downloaded: vLLM probes for them
(``has_nvidia_artifactory``) and has no sinks, nvfp4 or large pages without.

Source: vLLM 0.33 ``v1/attention/backends/fa_utils.py`` (``get_flash_attn_version`` and around),
``vllm_flash_attn/flash_attn_interface.py`` (``is_fa_version_supported``), ``flash_attn.py`` and
``flashinfer.py`` of the backends, ``utils/flashinfer.py`` (``supports_trtllm_attention``,
``can_use_trtllm_attention``).
"""

from __future__ import annotations

from ...kv_cache.group import DEFAULT_PREFERENCE
from .declaration import (
    Capability,
    EngineFacts,
    KernelBlocks,
    KernelQuestion,
    Situation,
    exactly,
    multiple_of,
)
from .kv_dtypes import is_fp8_per_tensor, is_per_token_head, is_quantised

HD256_PAGE = 128
"""Tokens of a page in version 4's kernel for head size 256 on Blackwell."""
FP8_HD512_PAGE = 64
"""Tokens of a page in version 4's kernel for an fp8 cache at head size 512 on Hopper."""

FA4_MAJORS = (9, 10, 11)


def version_runs(version: int, capability: Capability) -> bool:
    """Whether vLLM's wheel has this version's kernels for the device."""
    if version == 2:
        return capability >= (8, 0)
    return capability[0] in ({3: (9,), 4: FA4_MAJORS}[version])


def flash_attn_version(
    capability: Capability,
    facts: EngineFacts | None = None,
    *,
    head_size: int | None = None,
    head_size_v: int | None = None,
    has_sink: bool = False,
    block_size: int | None = None,
    hd256: bool = False,
    use_rswa: bool = False,
) -> int | None:
    """Version that vLLM resolves to; None where none runs.

    ``facts`` is None where vLLM asks without its config; ``hd256`` says whether the caller can use
    version 4's own kernel for head size 256.
    """
    major = capability[0]
    version = {9: 3, 10: 4}.get(major, 2)
    if facts is not None and facts.flash_attn_version is not None:
        version = facts.flash_attn_version
    if version == 3 and major >= 10:
        version = 4 if version_runs(4, capability) else 2
    if version == 3 and major == 9:
        mixed_sink = has_sink and None not in (head_size, head_size_v) and head_size != head_size_v
        diffusion = facts is not None and facts.is_diffusion
        if (head_size is not None and head_size > 256) or mixed_sink or diffusion:
            version = 4
    declined = not hd256 or hd256_declines(facts, has_sink, block_size, use_rswa)
    if version == 4 and declined and uses_hd256_kernel(capability, head_size, head_size_v):
        version = 2
    if version == 4 and major >= 10 and head_size is not None and head_size > 128:
        wide = head_size == 256 and head_size_v in (None, 256)
        if not wide and (head_size, head_size_v) != (192, 128):
            version = 2
    return version if version_runs(version, capability) else None


def uses_hd256_kernel(
    capability: Capability, head_size: int | None, head_size_v: int | None = None
) -> bool:
    """Whether version 4 would use its own kernel for head size 256."""
    return head_size == 256 and head_size_v in (None, 256) and capability[0] in (10, 11)


def hd256_declines(
    facts: EngineFacts | None, has_sink: bool, block_size: int | None, use_rswa: bool
) -> bool:
    """Whether that kernel lacks something the layer or the engine needs."""
    if has_sink or (block_size is not None and block_size % HD256_PAGE != 0):
        return True
    return facts is not None and (
        facts.logits_soft_cap
        or is_quantised(facts.kv_cache_dtype)
        or facts.is_mm_prefix_lm
        or use_rswa
        or facts.decode_context_parallel_size > 1
    )


def blocks(question: KernelQuestion) -> KernelBlocks:
    """Multiples of 16, except for two kernels with a page of their own."""
    capability, head_size, facts = question.capability, question.head_size, question.facts
    dtype = question.kv_cache_dtype
    fp8 = is_fp8_per_tensor(dtype) if facts is None else dtype in ("fp8", "fp8_e4m3")
    hopper_fp8 = capability[0] == 9 and fp8 and head_size == 512
    if hopper_fp8 and flash_attn_version(capability, facts, head_size=head_size) == 4:
        return exactly(FP8_HD512_PAGE)
    if uses_hd256_kernel(capability, head_size, question.head_size_v):
        version = flash_attn_version(
            capability,
            facts,
            head_size=head_size,
            head_size_v=question.head_size_v,
            hd256=True,
            use_rswa=question.use_rswa,
        )
        if version == 4:
            return exactly(HD256_PAGE)
    return multiple_of(16)


def head_size(size: int, capability: Capability) -> bool:
    """Multiples of 8: up to 256, up to 512 where version 4 runs."""
    return size % 8 == 0 and size <= (512 if version_runs(4, capability) else 256)


def sink(situation: Situation) -> bool:
    """Sinks need version 3 or 4."""
    return flash_attn_version(situation.capability, situation.facts) in (3, 4)


def mm_prefix(situation: Situation) -> bool:
    """Bidirectional images need version 4 on the device."""
    return version_runs(4, situation.capability)


def per_head_scales(situation: Situation) -> bool:
    """Scales per head need version 3 or later."""
    return (flash_attn_version(situation.capability, situation.facts) or 0) >= 3


def kv_cache_dtype(situation: Situation) -> bool:
    """Half floats; fp8 (e4m3) where some version reads it."""
    dtype = situation.request.kv_cache_dtype
    if not is_quantised(dtype):
        return dtype in ("auto", "float16", "bfloat16")
    version = flash_attn_version(situation.capability, situation.facts)
    return dtype in ("fp8", "fp8_e4m3") and reads_fp8(version, situation.capability, None)


def reads_fp8(version: int | None, capability: Capability, head_size: int | None) -> bool:
    """Version 3 on Hopper, version 4 on Hopper at head size 512, version 4 on Blackwell."""
    if capability[0] == 9:
        return version == 3 or (version == 4 and head_size in (None, 512))
    return capability[0] == 10 and version == 4


def combination(situation: Situation) -> str | None:
    """Sinks, fp8 and bidirectional images each ask for certain versions and head sizes."""
    return combined(situation, use_mm_prefix=situation.request.use_mm_prefix)


def combined(situation: Situation, *, use_mm_prefix: bool) -> str | None:
    """The same, where a composite backend keeps images away from FlashAttention."""
    request, capability = situation.request, situation.capability
    if request.has_sink and capability < (9, 0):
        return "attention sinks need compute capability 9.0"
    quantised = is_quantised(request.kv_cache_dtype)
    if use_mm_prefix and quantised and capability == (9, 0):
        return "bidirectional images with an fp8 KV cache need Triton on compute capability 9.0"
    version = layer_version(situation, request.head_size)
    if quantised and (
        request.kv_cache_dtype == "fp8_e5m2"
        or not reads_fp8(version, capability, request.head_size)
    ):
        return "no FlashAttention version reads an fp8 KV cache at this head_size on this device"
    if use_mm_prefix and layer_version(situation) != 4:
        return "bidirectional images need FlashAttention 4, which does not run this head_size"
    return None


def causal_half(situation: Situation) -> str | None:
    """FlashAttention's part in ``TRITON_FLASH_ATTN``: versions 3 and 4 only."""
    reason = combined(situation, use_mm_prefix=False)
    if reason is None and layer_version(situation) not in (3, 4):
        reason = "the causal half needs FlashAttention 3 or 4"
    return None if reason is None else f"FLASH_ATTN: {reason}"


def layer_version(situation: Situation, head_size_v: int | None = None) -> int | None:
    """Version for this layer."""
    return flash_attn_version(
        situation.capability,
        situation.facts,
        head_size=situation.request.head_size,
        head_size_v=head_size_v,
        has_sink=situation.request.has_sink,
        block_size=situation.block_size,
        hd256=True,
        use_rswa=situation.request.use_rswa,
    )


SMALL_PAGES = (16, 32, 64)
LARGE_PAGES = (128, 256, 512, 1024)
HALF_AND_FP8 = ("auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2")


def flashinfer_blocks(question: KernelQuestion) -> KernelBlocks:
    """Pages above 64 tokens only with TRTLLM's grouped-query kernels on Blackwell."""
    facts = question.facts
    if facts is None or facts.num_kv_heads == 0 or question.capability[0] != 10:
        return exactly(*SMALL_PAGES)
    grouped = facts.num_attention_heads // facts.num_kv_heads > 1
    even = facts.num_attention_heads % facts.num_kv_heads == 0
    if grouped and even and facts.use_trtllm_attention is not False:
        return exactly(*SMALL_PAGES, *LARGE_PAGES)
    return exactly(*SMALL_PAGES)


def flashinfer_kv_cache_dtype(situation: Situation) -> bool:
    """fp8 anywhere; nvfp4 on 8.x, 9.x and 12.x, its 4-over-6 variant on 10.x only."""
    dtype, major = situation.request.kv_cache_dtype, situation.capability[0]
    if dtype.startswith("nvfp4"):
        return dtype == "nvfp4" if major in (8, 9, 12) else major == 10
    return dtype in HALF_AND_FP8


def flashinfer_sink(situation: Situation) -> bool:
    """Sinks run in TRTLLM's kernels: 9.0, 10.x and 12.x, unless those are switched off."""
    if situation.facts.use_trtllm_attention is False:
        return False
    return situation.capability == (9, 0) or situation.capability[0] in (10, 12)


def flashinfer_combination(situation: Situation) -> str | None:
    """The kernels that read nvfp4 below Blackwell know neither head size 64 nor sinks."""
    request = situation.request
    if request.kv_cache_dtype.startswith("nvfp4") and situation.capability[0] in (8, 9, 12):
        if request.head_size == 64:
            return "an nvfp4 KV cache cannot be read at head_size 64 on this device"
        if request.has_sink:
            return "an nvfp4 KV cache cannot be read with attention sinks on this device"
    return None


def flashinfer_layouts(capability: Capability) -> tuple[str, ...] | None:
    """On Blackwell heads come before tokens inside a block."""
    return ("LBHNC", "BLHNC") if capability[0] == 10 else None


def either_half_reads(situation: Situation) -> bool:
    """A composite reads what Triton and FlashInfer both read."""
    dtype = situation.request.kv_cache_dtype
    triton = dtype in HALF_AND_FP8 or is_per_token_head(dtype)
    return triton and flashinfer_kv_cache_dtype(situation)


def flashinfer_half_layouts(capability: Capability) -> tuple[str, ...]:
    """``TRITON_FLASHINFER``: FlashInfer's, else vLLM's own order."""
    return flashinfer_layouts(capability) or DEFAULT_PREFERENCE


def composite_head_size(size: int, capability: Capability) -> bool:
    """``TRITON_FLASH_ATTN``: Gemma 4's two, where FlashAttention takes them."""
    return size in (256, 512) and head_size(size, capability)


def triton_head_size(size: int, capability: Capability) -> bool:
    """Triton's kernels, AITER's among them, need 32 elements."""
    return size >= 32


def xpu_head_size(size: int, capability: Capability) -> bool:
    """FlashAttention on Intel GPUs."""
    return size % 8 == 0 and size <= 512
