"""Attention backends on AMD GPUs: the order vLLM tries them in, and what each declares.

Source: vLLM 0.33 ``platforms/rocm.py`` ``_get_backend_priorities``; ``v1/attention/backends/``
``rocm_attn.py``, ``rocm_aiter_unified_attn.py``, ``rocm_aiter_fa.py``, ``rocm_octave_attn.py``
and ``mla/rocm_aiter_mla_sparse.py``. As in vLLM's images for ROCm, AITER is installed, and
``VLLM_ROCM_USE_AITER`` is not set.
"""

from __future__ import annotations

from ...records import replace
from . import kv_dtypes as packing
from .declaration import (
    ANY_FLOAT,
    DECODER,
    FP8,
    HALF,
    UNQUANTISED,
    Capability,
    Declaration,
    KernelBlock,
    Situation,
    exactly,
    multiple_of,
)
from .latent_backends import DENSE_LATENT, SPARSE
from .plain_backends import PLAIN, TRITON_ATTN

AITER: tuple[Capability, ...] = ((9, 4), (9, 5))
"""CDNA 3 and 4 (MI300X to MI355X): where AITER's kernels are used without being asked for."""
HALF_AND_FP8 = (*UNQUANTISED, *FP8, "fp8_e5m2")
ANY_ROW = (KernelBlock(1), *multiple_of(16))
INDEXER = "DEEPSEEK_V32_INDEXER"


def backend_order(situation: Situation) -> tuple[str, ...]:
    """Names of the backends to try, best first."""
    request = situation.request
    if request.use_sparse:
        return ("ROCM_AITER_MLA_SPARSE",)
    if request.use_mla:
        return ("TRITON_MLA",)
    native = () if situation.facts.is_encoder_decoder else ("ROCM_ATTN",)
    unified = ("ROCM_AITER_UNIFIED_ATTN",) if situation.capability in AITER else ()
    return (*native, *unified, "TRITON_ATTN", "TURBOQUANT", "ROCM_OCTAVE", "ULTRAQUANT")


NATIVE = Declaration(
    name="ROCM_ATTN",
    dtypes=ANY_FLOAT,
    kv_cache_dtypes=HALF_AND_FP8,
    head_sizes=(32, 64, 80, 96, 128, 160, 192, 224, 256),
    blocks=multiple_of(16),
    layouts=("LHBNC", "LBHNC"),
    sliding_window=True,
    non_causal=True,
    attn_types=("decoder", "encoder", "encoder_only"),
    pack=packing.two_planes,
)
UNIFIED = Declaration(
    name="ROCM_AITER_UNIFIED_ATTN",
    dtypes=HALF,
    kv_cache_dtypes=HALF_AND_FP8,
    head_size_rule=lambda size, capability: size >= 32,
    blocks=multiple_of(16),
    preferred=64,
    layouts=("LBHNC", "LHBNC"),
    sink=True,
    sliding_window=True,
    attn_types=("decoder", "encoder", "encoder_only", "encoder_decoder"),
)
AITER_FLASH = Declaration(
    name="ROCM_AITER_FA",  # its get_name() is FLASH_ATTN
    dtypes=HALF,
    kv_cache_dtypes=HALF_AND_FP8,
    head_sizes=(64, 128, 256),
    blocks=exactly(16, 32),
    layouts=("LBHNC", "LHBNC"),
    sink=True,
    sliding_window=True,
    attn_types=DECODER,
    runs_on=lambda capability: capability in AITER,
)
SPARSE_LATENT = replace(
    SPARSE,
    name="ROCM_AITER_MLA_SPARSE",
    dtypes=HALF,
    kv_cache_dtypes=(*UNQUANTISED, *FP8),
    head_sizes=(),
    blocks=ANY_ROW,
    layouts=("LBNHC", "LBHNC", "BLHNC"),
    sink=lambda situation: situation.capability in AITER,
    pcp=False,
)

SHARED = ("TURBOQUANT", "ULTRAQUANT", "TRITON_MLA")
"""Declared as for CUDA."""

ROCM: dict[str, Declaration] = {
    row.name: row
    for row in (
        NATIVE,
        UNIFIED,
        TRITON_ATTN,
        AITER_FLASH,
        SPARSE_LATENT,
        *(row for row in (*PLAIN, *DENSE_LATENT) if row.name in SHARED),
        # a model's own choice; without CUDA's kernels it takes single rows too
        Declaration(name=INDEXER, head_sizes=(32, 64, 128), blocks=ANY_ROW, pcp=True),
    )
}
