"""The table of attention backends for keys and values (not latents) that vLLM can choose.

Source: vLLM 0.33, one class each in ``v1/attention/backends/``.
"""

from __future__ import annotations

from ...kv_cache.group import DEFAULT_PREFERENCE
from ...records import replace
from . import flash_attention, flashinfer
from . import kv_dtypes as packing
from .declaration import (
    ALL_TYPES,
    ANY_FLOAT,
    BF16,
    FP8,
    UNQUANTISED,
    Declaration,
    Situation,
    between,
    exactly,
    majors,
    multiple_of,
    only,
)

FLASH_ATTN = Declaration(
    name="FLASH_ATTN",
    kv_cache_dtype_rule=flash_attention.kv_cache_dtype,
    head_size_rule=flash_attention.head_size,
    runs_on=between((8, 0)),
    blocks=flash_attention.blocks,
    sink=flash_attention.sink,
    sliding_window=True,
    mm_prefix=flash_attention.mm_prefix,
    non_causal=True,
    rswa=True,
    per_head_scales=flash_attention.per_head_scales,
    dcp=True,
    attn_types=ALL_TYPES,
    combination=flash_attention.combination,
)

TRITON_ATTN = Declaration(
    name="TRITON_ATTN",
    dtypes=ANY_FLOAT,
    kv_cache_dtypes=(
        *flashinfer.HALF_AND_FP8,
        "int4_per_token_head",
        "int8_per_token_head",
        "fp8_per_token_head",
    ),
    head_size_rule=lambda size, capability: size >= 32,
    blocks=multiple_of(16),
    sink=True,
    sliding_window=True,
    mm_prefix=True,
    non_causal=True,
    rswa=True,
    attn_types=ALL_TYPES,
    pack=packing.per_token_head,
)

FLASHINFER = Declaration(
    name="FLASHINFER",
    kv_cache_dtype_rule=flashinfer.kv_cache_dtype,
    head_sizes=(64, 128, 256, 512),
    runs_on=between((8, 0), (12, 1)),
    blocks=flashinfer.blocks,
    layouts=flashinfer.layouts,
    sink=flashinfer.sink,
    sliding_window=True,
    non_causal=True,
    dcp=True,
    combination=flashinfer.combination,
    pack=packing.nvfp4,
)


def either_half_reads(situation: Situation) -> bool:
    """A composite reads what Triton and FlashInfer both read."""
    return (
        situation.request.kv_cache_dtype in TRITON_ATTN.kv_cache_dtypes
        and flashinfer.kv_cache_dtype(situation)
    )


PLAIN = (
    FLASH_ATTN,
    replace(FLASH_ATTN, name="FLASH_ATTN_DIFFKV", head_size_v=128),
    TRITON_ATTN,
    replace(
        TRITON_ATTN,
        name="TRITON_ATTN_DIFFKV",
        kv_cache_dtypes=("auto", "bfloat16", *FP8),
        attn_types=("decoder",),
    ),
    FLASHINFER,
    Declaration(
        name="TRITON_FLASH_ATTN",
        kv_cache_dtype_rule=flash_attention.kv_cache_dtype,
        head_sizes=(256, 512),
        head_size_rule=lambda size, capability: (
            size in (256, 512) and flash_attention.head_size(size, capability)
        ),
        runs_on=majors(9),
        blocks=flash_attention.blocks,
        layouts=DEFAULT_PREFERENCE,
        sliding_window=True,
        mm_prefix=True,
        rswa=True,
        combination=flash_attention.causal_half,
    ),
    Declaration(
        name="TRITON_FLASHINFER",
        kv_cache_dtype_rule=either_half_reads,
        head_sizes=(256, 512),
        runs_on=majors(10),
        blocks=exactly(64),
        layouts=lambda capability: flashinfer.layouts(capability) or DEFAULT_PREFERENCE,
        sliding_window=True,
        mm_prefix=True,
        combination=flashinfer.combination,
    ),
    Declaration(
        name="FLEX_ATTENTION",
        dtypes=ANY_FLOAT,
        blocks=multiple_of(16),
        layouts=("LBNHC",),
        sliding_window=True,
        mm_prefix=True,
        non_causal=True,
        rswa=True,
        attn_types=("decoder", "encoder_only"),
    ),
    Declaration(
        name="TURBOQUANT",
        kv_cache_dtypes=tuple(packing.TURBOQUANT_BITS),
        head_size_rule=lambda size, capability: size > 0,
        blocks=exactly(16, 32, 64, 128),
        layouts=("LBNHC",),
        pack=packing.turboquant,
    ),
    Declaration(
        name="ULTRAQUANT",
        dtypes=BF16,
        kv_cache_dtypes=("ultraquant_4bit",),
        head_size_rule=lambda size, capability: size > 0,
        blocks=exactly(16, 32, 64, 128),
        preferred=64,
        layouts=("LBNHC",),
        pack=packing.ultraquant,
    ),
    Declaration(
        name="B12X",
        dtypes=BF16,
        kv_cache_dtypes=("auto", "bfloat16", *FP8),
        head_sizes=(64, 128, 192, 256),
        runs_on=only((12, 0), (12, 1)),
        blocks=exactly(64, 128),
        exact_blocks=True,
        preferred=128,
        layouts=("LBHNC", "BLHNC"),
        sink=True,
        sliding_window=True,
        pack=packing.two_planes,
    ),
    Declaration(
        name="HPC_ATTN",
        kv_cache_dtypes=("auto", "bfloat16", "fp8_e4m3"),
        head_sizes=(128,),
        runs_on=only((9, 0)),
        blocks=exactly(64),
        layouts=("LBNHC",),
    ),
    Declaration(
        name="CPU_ATTN",
        dtypes=ANY_FLOAT,
        kv_cache_dtypes=(*UNQUANTISED, *FP8, "fp8_e5m2"),
        head_sizes=(32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512),
        blocks=multiple_of(32),
        layouts=("LBHNC",),
        sliding_window=True,
        non_causal=True,
        attn_types=ALL_TYPES,
    ),
)
