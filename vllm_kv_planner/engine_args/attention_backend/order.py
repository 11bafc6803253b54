"""In which order vLLM tries attention backends on CUDA (``rocm.py``: on AMD GPUs).

Source: vLLM 0.33 ``platforms/cuda.py`` ``_get_backend_priorities``.
"""

from __future__ import annotations

from ...model.backend_request import BackendRequest
from .facts import Capability
from .quantisation import is_quantised

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


def backend_order(request: BackendRequest, capability: Capability) -> Names:
    """Names of the backends to try, best first."""
    return (latent_order if request.use_mla else plain_order)(request, capability[0])


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
