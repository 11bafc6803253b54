"""Which attention backends are tried first: what models and packed KV caches ask for, vLLM's order.

Source: vLLM 0.33 ``model_executor/models/config.py`` (``Gemma4Config`` and its heirs,
``UnlimitedOCRForCausalLMConfig``), ``engine/arg_utils.py`` ``create_engine_config``,
``_get_backend_priorities`` of ``platforms/cuda.py`` and ``platforms/rocm.py``,
``platforms/xpu.py`` ``get_attn_backend_cls``.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import UnsupportedError
from ...gpu.gpu import Platform
from ...model.layers.base import BackendRequest
from ...records import dataclass, replace
from .declaration import AITER, Capability, Situation
from .kv_dtypes import is_quantised
from .plain import version_runs

GEMMA4 = (
    "Gemma4ForCausalLM",
    "Gemma4ForConditionalGeneration",
    "Gemma4UnifiedForConditionalGeneration",
)
EMBEDDING_GEMMA2 = "EmbeddingGemma2Model"
DIFFUSION_GEMMA = "DiffusionGemmaForBlockDiffusion"
UNLIMITED_OCR = "UnlimitedOCRForCausalLM"
WINDOWED_DECODE = ("FLASH_ATTN", "TRITON_ATTN", "FLEX_ATTENTION")
"""Backends that know reference sliding window attention."""


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """The ``--attention-config`` values that decide a backend.

    Attributes:
        backend: ``--attention-backend``; None leaves the choice to vLLM.
        flash_attn_version: 2, 3 or 4; None leaves it to the device.
        use_non_causal: Whether some layers do not mask the future.
    """

    backend: str | None = None
    flash_attn_version: int | None = None
    use_non_causal: bool = False


def preferences_of(
    asked: Preferences,
    *,
    architecture: str,
    head_sizes: Iterable[int],
    capability: Capability,
    kv_cache_dtype: str,
    platform: Platform = "cuda",
) -> Preferences:
    """What the user asked for, filled in by the KV cache dtype and then by the model.

    Raises:
        UnsupportedError: The model refuses what was asked for.
    """
    if asked.backend is not None:
        backend = asked.backend.upper()
        asked = replace(asked, backend=None if backend == "AUTO" else backend)
    packed = kv_cache_dtype.startswith("turboquant_") or kv_cache_dtype == "ultraquant_4bit"
    if packed and (asked.flash_attn_version or 3) >= 3:
        asked = replace(asked, flash_attn_version=2)
    has_fa4 = platform == "cuda" and version_runs(4, capability)
    if architecture == UNLIMITED_OCR:
        return unlimited_ocr(asked, capability, has_fa4)
    if architecture in (*GEMMA4, EMBEDDING_GEMMA2, DIFFUSION_GEMMA) and platform != "xpu":
        asked = gemma4(asked, frozenset(head_sizes), capability, kv_cache_dtype, has_fa4)
    if architecture == EMBEDDING_GEMMA2 and asked.backend is None:
        return replace(asked, backend="TRITON_ATTN")
    if architecture == DIFFUSION_GEMMA:
        if asked.backend == "FLASHINFER":
            raise UnsupportedError(
                "--attention-backend FLASHINFER cannot run DiffusionGemma, which mixes causal and "
                "bidirectional attention; use FLASH_ATTN or TRITON_ATTN"
            )
        return replace(asked, use_non_causal=asked.use_non_causal or asked.backend is None)
    return asked


def gemma4(
    asked: Preferences,
    head_sizes: frozenset[int],
    capability: Capability,
    kv_cache_dtype: str,
    has_fa4: bool,
) -> Preferences:
    """One kernel for layers of different head size: FlashAttention 4, or Triton without it."""
    if len(head_sizes) <= 1:
        return asked
    if has_fa4 and max(head_sizes) <= 512:
        each_its_own = capability[0] == 9 and kv_cache_dtype.startswith("fp8")
        free = asked.flash_attn_version is None and asked.backend in (None, "FLASH_ATTN")
        return replace(asked, flash_attn_version=4) if free and not each_its_own else asked
    return asked if asked.backend is not None else replace(asked, backend="TRITON_ATTN")


def unlimited_ocr(asked: Preferences, capability: Capability, has_fa4: bool) -> Preferences:
    """Reference sliding window attention: FlashAttention 4 where it runs, else Triton."""
    backend = asked.backend or ("FLASH_ATTN" if has_fa4 else "TRITON_ATTN")
    if backend not in WINDOWED_DECODE:
        raise UnsupportedError(
            f"--attention-backend {backend} cannot run this model's reference sliding window "
            f"attention; use {', '.join(WINDOWED_DECODE)}"
        )
    if backend != "FLASH_ATTN":
        return replace(asked, backend=backend)
    if not has_fa4:
        raise UnsupportedError(
            "--attention-backend FLASH_ATTN: this model needs FlashAttention 4, which does not "
            f"run on compute capability {capability[0]}.{capability[1]}"
        )
    return replace(asked, backend=backend, flash_attn_version=4)


Names = tuple[str, ...]

BLACKWELL_LATENT = (
    "FLASHINFER_MLA",
    "TOKENSPEED_MLA",
    "CUTLASS_MLA",
    "FLASH_ATTN_MLA",
    "FLASHMLA",
    "TRITON_MLA",
)
LATENT = ("FLASH_ATTN_MLA", "FLASHMLA", "FLASHINFER_MLA", "TRITON_MLA")
LAST = ("TRITON_ATTN", "FLEX_ATTENTION", "TURBOQUANT")

FEW_HEADS = 16
"""Up to this many query heads a rank, FlashMLA would pad."""


def backend_order(situation: Situation) -> Names:
    """Names of the backends to try on the engine's platform, best first."""
    request, facts = situation.request, situation.facts
    if facts.rocm is not None:
        return rocm_order(situation)
    if facts.xpu:
        return ("TRITON_ATTN",) if request.dtype == "float32" else ("FLASH_ATTN",)
    return (latent_order if request.use_mla else plain_order)(request, situation.capability[0])


def rocm_order(situation: Situation) -> Names:
    """On AMD GPUs, with AITER installed as in vLLM's images and not asked for."""
    request = situation.request
    if request.use_sparse:
        return ("ROCM_AITER_MLA_SPARSE",)
    if request.use_mla:
        return ("TRITON_MLA",)
    native = () if situation.facts.is_encoder_decoder else ("ROCM_ATTN",)
    unified = ("ROCM_AITER_UNIFIED_ATTN",) if situation.capability in AITER else ()
    return (*native, *unified, "TRITON_ATTN", "TURBOQUANT", "ROCM_OCTAVE", "ULTRAQUANT")


def latent_order(request: BackendRequest, major: int) -> Names:
    """For MLA, dense and sparse together: each backend turns down what it is not for."""
    if major == 12:
        return ("TRITON_MLA", "FLASHINFER_MLA_SPARSE_SM120")
    if major == 10:
        return (*BLACKWELL_LATENT, *blackwell_sparse(request))
    sparse = ("FLASH_ATTN_MLA_SPARSE", "FLASHMLA_SPARSE")
    if request.head_size == 512:
        return (*LATENT, "FLASHINFER_MLA_SPARSE_SM90", *sparse)
    return (*LATENT, *sparse, "FLASHINFER_MLA_SPARSE_SM90")


def blackwell_sparse(request: BackendRequest) -> Names:
    """Sparse MLA on 10.x: by the cache's format, then by query heads on a rank."""
    if is_quantised(request.kv_cache_dtype):
        return ("FLASHINFER_MLA_SPARSE", "FLASHMLA_SPARSE")
    if request.num_heads <= FEW_HEADS:
        return ("FLASH_ATTN_MLA_SPARSE_FA4", "FLASHINFER_MLA_SPARSE", "FLASHMLA_SPARSE")
    return ("FLASHMLA_SPARSE", "FLASHINFER_MLA_SPARSE")


def plain_order(request: BackendRequest, major: int) -> Names:
    """For everything else."""
    if major == 10 and not request.use_non_causal:
        first = ("TRITON_FLASHINFER",) if request.use_mm_prefix else ()
        return (*first, "FLASHINFER", "FLASH_ATTN", *LAST)
    first = ("TRITON_FLASH_ATTN",) if major == 9 and request.use_mm_prefix else ()
    return (*first, "FLASH_ATTN", "FLASHINFER", *LAST)
