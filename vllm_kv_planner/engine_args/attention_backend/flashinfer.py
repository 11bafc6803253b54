"""FlashInfer: which device serves sinks, nvfp4 and large pages.

FlashInfer's kernels are taken to be there, prebuilt or to be downloaded: vLLM probes for them
(``has_nvidia_artifactory``) and has no sinks, nvfp4 or large pages without.

Source: vLLM 0.33 ``v1/attention/backends/flashinfer.py`` ``FlashInferBackend`` and
``utils/flashinfer.py`` (``supports_trtllm_attention``, ``can_use_trtllm_attention``).
"""

from __future__ import annotations

from .declaration import Capability, KernelBlocks, KernelQuestion, Situation, exactly

SMALL_PAGES = (16, 32, 64)
LARGE_PAGES = (128, 256, 512, 1024)
HALF_AND_FP8 = ("auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2")


def blocks(question: KernelQuestion) -> KernelBlocks:
    """Pages above 64 tokens only with TRTLLM's grouped-query kernels on Blackwell."""
    facts = question.facts
    if facts is None or facts.num_kv_heads == 0 or question.capability[0] != 10:
        return exactly(*SMALL_PAGES)
    grouped = facts.num_attention_heads // facts.num_kv_heads > 1
    even = facts.num_attention_heads % facts.num_kv_heads == 0
    if grouped and even and facts.use_trtllm_attention is not False:
        return exactly(*SMALL_PAGES, *LARGE_PAGES)
    return exactly(*SMALL_PAGES)


def kv_cache_dtype(situation: Situation) -> bool:
    """fp8 anywhere; nvfp4 on 8.x, 9.x and 12.x, its 4-over-6 variant on 10.x only."""
    dtype, major = situation.request.kv_cache_dtype, situation.capability[0]
    if dtype.startswith("nvfp4"):
        return dtype == "nvfp4" if major in (8, 9, 12) else major == 10
    return dtype in HALF_AND_FP8


def sink(situation: Situation) -> bool:
    """Sinks run in TRTLLM's kernels: 9.0, 10.x and 12.x, unless those are switched off."""
    if situation.facts.use_trtllm_attention is False:
        return False
    return situation.capability == (9, 0) or situation.capability[0] in (10, 12)


def combination(situation: Situation) -> str | None:
    """The kernels that read nvfp4 below Blackwell know neither head size 64 nor sinks."""
    request = situation.request
    if request.kv_cache_dtype.startswith("nvfp4") and situation.capability[0] in (8, 9, 12):
        if request.head_size == 64:
            return "an nvfp4 KV cache cannot be read at head_size 64 on this device"
        if request.has_sink:
            return "an nvfp4 KV cache cannot be read with attention sinks on this device"
    return None


def layouts(capability: Capability) -> tuple[str, ...] | None:
    """On Blackwell heads come before tokens inside a block."""
    return ("LBHNC", "BLHNC") if capability[0] == 10 else None
