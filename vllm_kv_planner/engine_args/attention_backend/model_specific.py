"""The table of backends that a model's own code insists on; vLLM's selector never sees them.

Names are vLLM's ``get_name()``, except where several classes share one: those marked so.

Source: vLLM 0.33 ``v1/attention/backends/mla/indexer.py``, ``sparse_swa.py``, and the folders
of ``models/`` that each name says.
"""

from __future__ import annotations

from ...records import replace
from . import kv_dtypes as packing
from . import latent
from .declaration import (
    BF16,
    HALF,
    Declaration,
    KernelBlocks,
    KernelQuestion,
    exactly,
    majors,
    multiple_of,
    only,
)
from .plain_backends import FLASH_ATTN
from .selectable import SELECTABLE

PACKED_BESIDE = ("BLHNC", "BLNHC")
"""Pages of several layers stand side by side inside one block."""


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


INDEXER = Declaration(
    name="DEEPSEEK_V32_INDEXER", head_sizes=(32, 64, 128), blocks=exactly(64), pcp=True
)
DEEPSEEK_V4 = Declaration(
    name="FLASHMLA_SPARSE_DSV4",
    dtypes=BF16,
    kv_cache_dtypes=("auto", "fp8_ds_mla", "fp8"),
    head_sizes=(512,),
    runs_on=majors(9, 10),
    blocks=exactly(256),
    mla=True,
    sparse=True,
    sink=True,
)
DEEPSEEK_V4_FLASHINFER = replace(
    DEEPSEEK_V4,
    name="FLASHINFER_MLA_SPARSE_DSV4",
    kv_cache_dtypes=("auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_ds_mla"),
    runs_on=majors(10, 12),
    combination=latent.deepseek_v4_flashinfer,
)
MINIMAX_M3 = Declaration(
    name="MINIMAX_M3_SPARSE",
    kv_cache_dtypes=("bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"),
    head_sizes=(128,),
    blocks=exactly(128),
    sparse=True,
)

ROWS = (
    INDEXER,
    # vLLM's Glm5NextIndexerBackend; its get_name() is DEEPSEEK_V32_INDEXER.
    replace(INDEXER, name="GLM5NEXT_INDEXER", blocks=pooled_indexer_blocks),
    replace(INDEXER, name="KPOOL_TAIL", head_sizes=(), blocks=multiple_of(1), layouts=("BLHNC",)),
    replace(INDEXER, name="DEEPSEEK_V4_INDEXER", blocks=exactly(256), layouts=PACKED_BESIDE),
    replace(INDEXER, name="DEEPSEEK_V41_INDEXER", blocks=v41_blocks, layouts=PACKED_BESIDE),
    replace(INDEXER, name="DEEPSEEK_V41_SPARSE_INDEXER", blocks=v41_blocks, layouts=PACKED_BESIDE),
    Declaration(
        name="DEEPSEEK_SPARSE_SWA", head_sizes=(512,), blocks=multiple_of(32), preferred=256
    ),
    Declaration(name="CompressorBackend", head_sizes=(512, 1024)),
    DEEPSEEK_V4,
    DEEPSEEK_V4_FLASHINFER,
    replace(DEEPSEEK_V4, name="FLASHMLA_SPARSE_DSV41", blocks=v41_blocks, pcp=True),
    replace(DEEPSEEK_V4_FLASHINFER, name="FLASHINFER_MLA_SPARSE_DSV41", blocks=exactly(128)),
    replace(
        DEEPSEEK_V4,
        name="FLASHMLA_MEGA_ATTN_DSV41",
        kv_cache_dtypes=("auto", "fp8_ds_mla", "fp8", "nvfp4_ds_mla"),
        runs_on=majors(10),
        blocks=exactly(128),
    ),
    MINIMAX_M3,
    replace(MINIMAX_M3, name="CUTLASS_MSA"),
    replace(MINIMAX_M3, name="TRITON_MSA"),
    # vLLM's MiniMaxM3SparseMSANvfp4Backend; its get_name() is MINIMAX_M3_SPARSE.
    replace(
        MINIMAX_M3,
        name="MINIMAX_M3_SPARSE_NVFP4",
        kv_cache_dtypes=("nvfp4",),
        layouts=("LBHNC",),
        pack=packing.nvfp4,
    ),
    replace(MINIMAX_M3, name="MINIMAX_M3_SPARSE_INDEXER"),
    replace(
        FLASH_ATTN,
        name="STEP5_DSA",
        kv_cache_dtypes=("auto", "bfloat16", "fp8", "fp8_e4m3"),
        kv_cache_dtype_rule=None,
        head_size_rule=None,
        head_sizes=(192,),
        runs_on=only((9, 0), (10, 0), (10, 3)),
        layouts=("BLNHC",),
        sparse=True,
        sink=False,
        sliding_window=False,
        mm_prefix=False,
        non_causal=False,
        per_head_scales=False,
        dcp=False,
        attn_types=("decoder",),
        combination=None,
        pack=packing.tokens_apart(8),
    ),
    Declaration(name="STEP5_CSA_SUMMARY"),
    Declaration(name="STEP5_CSA_TAIL_RING"),
    replace(
        FLASH_ATTN,
        name="QWEN4_EXP_QSA_TRITON",
        dtypes=BF16,
        kv_cache_dtypes=("auto", "bfloat16", "fp8", "fp8_e4m3"),
        kv_cache_dtype_rule=None,
        blocks=multiple_of(16),
        sparse=True,
        combination=None,
        dcp=False,
    ),
    Declaration(name="QWEN4_EXP_EXP_QSA_STATE", dtypes=BF16, layouts=("BLNHC", "BLHNC")),
    Declaration(name="INKLING_SCONV_SWA"),
    # vLLM's Dots3NoteTritonMLABackend; its get_name() is TRITON_MLA.
    replace(
        SELECTABLE["TRITON_MLA"],
        name="DOTS3_NOTE_TRITON_MLA",
        head_sizes=(1088,),
        sliding_window=True,
    ),
    replace(
        SELECTABLE["FLASH_ATTN_MLA_SPARSE"],
        name="DOTS3_NOTE_PADDED_MLA_SPARSE",
        layouts=("BLHNC",),
    ),
    # vLLM's HYV4FlashMLASparseBackend; its get_name() is FLASHMLA_SPARSE.
    replace(SELECTABLE["FLASHMLA_SPARSE"], name="HYV4_FLASHMLA_SPARSE", sink=True),
    Declaration(
        name="CACHE_ONLY_ATTN",
        dtypes=(*HALF, "float32"),
        kv_cache_dtypes=("auto", "bfloat16"),
        mm_prefix=True,
    ),
)

MODEL_SPECIFIC = {row.name: row for row in ROWS}
