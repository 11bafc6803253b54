"""The table of attention backends for latents (MLA), dense and sparse, that vLLM can choose.

Source: vLLM 0.33, one class each in ``v1/attention/backends/mla/``.
"""

from __future__ import annotations

from ...records import replace
from . import kv_dtypes as packing
from . import latent
from .declaration import (
    ANY_FLOAT,
    BF16,
    FP8,
    HALF,
    UNQUANTISED,
    Declaration,
    exactly,
    majors,
    multiple_of,
)

MLA_HEADS = (320, 512, 576)
SPARSE_HEADS = (512, 576)

LATENT = Declaration(
    name="",
    kv_cache_dtypes=(*UNQUANTISED, *FP8),
    head_sizes=MLA_HEADS,
    mla=True,
    dcp=True,
    pcp=True,
    pack=packing.per_token_head,
)
SPARSE = Declaration(
    name="",
    dtypes=BF16,
    head_sizes=SPARSE_HEADS,
    blocks=multiple_of(64),
    mla=True,
    sparse=True,
    pcp=True,
    pack=packing.rows_apart(1),
)

DENSE_LATENT = (
    replace(
        LATENT,
        name="FLASH_ATTN_MLA",
        kv_cache_dtypes=UNQUANTISED,
        runs_on=majors(9),
        blocks=multiple_of(16),
        combination=latent.hopper_only,
    ),
    replace(
        LATENT,
        name="FLASHMLA",
        runs_on=majors(9, 10),
        blocks=exactly(64),
        combination=latent.flashmla,
    ),
    replace(
        LATENT,
        name="FLASHINFER_MLA",
        runs_on=majors(10),
        blocks=exactly(32, 64),
        non_causal=True,
        non_causal_dcp=True,
        combination=latent.flashinfer,
    ),
    replace(
        LATENT,
        name="TOKENSPEED_MLA",
        kv_cache_dtypes=FP8,
        runs_on=majors(10),
        blocks=exactly(32, 64),
        non_causal=True,
        non_causal_dcp=True,
        combination=latent.tokenspeed,
    ),
    replace(LATENT, name="CUTLASS_MLA", runs_on=majors(10), blocks=exactly(128)),
    replace(LATENT, name="TRITON_MLA", head_sizes=(), blocks=multiple_of(16), non_causal=True),
    replace(
        LATENT,
        name="CPU_MLA",
        dtypes=ANY_FLOAT,
        kv_cache_dtypes=("auto",),
        head_sizes=(576,),
        blocks=exactly(16),
        exact_blocks=True,
        dcp=False,
    ),
    replace(
        LATENT,
        name="AMX_MLA",
        dtypes=BF16,
        kv_cache_dtypes=UNQUANTISED,
        head_sizes=(576,),
        blocks=multiple_of(32),
        dcp=False,
    ),
)

SPARSE_LATENT = (
    replace(
        SPARSE,
        name="FLASH_ATTN_MLA_SPARSE",
        dtypes=HALF,
        head_sizes=(),
        runs_on=majors(9),
        combination=latent.flash_attn_sparse,
    ),
    replace(
        SPARSE,
        name="FLASH_ATTN_MLA_SPARSE_FA4",
        kv_cache_dtypes=("auto", "bfloat16"),
        head_sizes=(576,),
        runs_on=majors(10),
        dcp=True,
        combination=latent.flash_attn_4_sparse,
        pack=packing.rows_apart(64),
    ),
    replace(
        SPARSE,
        name="FLASHMLA_SPARSE",
        kv_cache_dtypes=("auto", "bfloat16", "fp8_ds_mla", "fp8", "nvfp4_ds_mla"),
        runs_on=majors(9, 10),
        blocks=latent.flashmla_sparse_blocks,
        dcp=True,
        combination=latent.flashmla_sparse,
        pack=packing.flashmla_sparse,
    ),
    replace(
        SPARSE,
        name="FLASHINFER_MLA_SPARSE",
        dtypes=HALF,
        kv_cache_dtypes=(*UNQUANTISED, *FP8),
        runs_on=majors(10),
        blocks=multiple_of(32),
        dcp=True,
        combination=latent.flashinfer_sparse,
        pack=packing.rows_apart(32),
    ),
    replace(
        SPARSE,
        name="FLASHINFER_MLA_SPARSE_SM120",
        kv_cache_dtypes=("auto", *FP8, "fp8_ds_mla"),
        runs_on=majors(12),
        combination=latent.flashinfer_sparse_sm120,
        pack=packing.rows_apart(64),
    ),
    replace(
        SPARSE,
        name="FLASHINFER_MLA_SPARSE_SM90",
        kv_cache_dtypes=("auto", "bfloat16", *FP8),
        runs_on=majors(9),
        combination=latent.flashinfer_sparse_sm90,
    ),
)
