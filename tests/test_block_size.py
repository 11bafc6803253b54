"""Tokens per block, against values worked out by hand from vLLM 0.33's rules."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kv_planner.engine_args.attention_backend import (
    AttentionBackend,
    EngineFacts,
    fixed_backend,
)
from vllm_kv_planner.engine_args.block_size import (
    align_hybrid,
    align_skip_layers,
    check_aligned,
    preferred_block_size,
    validate_block_size,
)
from vllm_kv_planner.errors import InputError, UnsupportedError
from vllm_kv_planner.model.layers.base import CacheContext
from vllm_kv_planner.records import replace


def backends(*names: str, capability: tuple[int, int] = (9, 0)) -> list[AttentionBackend]:
    facts = EngineFacts(head_size=128, num_attention_heads=32, num_kv_heads=8)
    return [fixed_backend(name, capability=capability, facts=facts) for name in names]


@pytest.mark.parametrize(
    ("names", "block_size"),
    [
        (("FLASH_ATTN",), 16),
        (("FLASHINFER_MLA",), 32),
        (("FLASHMLA",), 64),
        (("CUTLASS_MLA",), 128),
        (("ULTRAQUANT",), 64),
        (("B12X",), 128),
        (("DEEPSEEK_SPARSE_SWA",), 256),
        (("FLASH_ATTN", "TRITON_ATTN"), 16),
        (("FLASHINFER_MLA_SPARSE", "DEEPSEEK_V32_INDEXER"), 64),
        (("CUTLASS_MLA", "FLASHMLA"), 128),
        (("FLASHMLA_SPARSE_DSV4", "DEEPSEEK_SPARSE_SWA", "CompressorBackend"), 256),
        (("FLASH_ATTN", "FLASH_ATTN", "FLASHMLA"), 64),
    ],
)
def test_preferred(names: tuple[str, ...], block_size: int) -> None:
    assert preferred_block_size(backends(*names)) == block_size


def test_no_common_size() -> None:
    with pytest.raises(UnsupportedError, match="CPU_MLA, FLASHMLA"):
        preferred_block_size(backends("CPU_MLA", "FLASHMLA"))


def sized(block_size: int, mamba_block_size: int = 8192, **given: Any) -> CacheContext:
    return CacheContext(
        block_size=block_size,
        mamba_block_size=mamba_block_size,
        tensor_parallel_size=1,
        dtype="bfloat16",
        kv_cache_dtype="auto",
        compute_capability=(9, 0),
        max_num_batched_tokens=8192,
        **given,
    )


def hybrid(
    names: tuple[str, ...] = ("FLASH_ATTN",),
    sizes: CacheContext | None = None,
    **given: Any,
) -> CacheContext:
    values: dict[str, Any] = {
        "attention_bytes_per_token": 4096,
        "mamba_page_bytes": 2_000_000,
        "use_mla": False,
    }
    return align_hybrid(sizes or sized(16), backends(*names), **{**values, **given})


def test_attention_page_covers_the_state() -> None:
    # 31 times 16 tokens of 4096 bytes are the first to reach 2,000,000.
    assert hybrid() == sized(496, mamba_page_size_padded=496 * 4096)


def test_aligned_states_share_the_block() -> None:
    before = sized(16, mamba_cache_mode="align")
    sizes = hybrid(sizes=before, checkpoint_alignment=256)
    assert sizes == replace(
        before, block_size=512, mamba_block_size=512, mamba_page_size_padded=512 * 4096
    )


def test_user_block_size_is_a_lower_bound() -> None:
    assert hybrid(sizes=sized(1024)).block_size == 1024
    assert hybrid(sizes=sized(48)).block_size == 528  # 11 times 48


def test_latents_come_in_runs_of_128() -> None:
    sizes = hybrid(("FLASHMLA",), attention_bytes_per_token=1152, use_mla=True)
    assert sizes.block_size == 14 * 128


def test_every_backend_has_its_say() -> None:
    assert hybrid(("FLASH_ATTN", "FLASHMLA")).block_size == 512


def test_equal_pages_need_no_padding() -> None:
    sizes = hybrid(mamba_page_bytes=32 * 4096)
    assert (sizes.block_size, sizes.mamba_page_size_padded) == (32, None)


def test_no_states_no_change() -> None:
    sizes = sized(16, mamba_cache_mode="align")
    assert hybrid(sizes=sizes, mamba_page_bytes=0) is sizes


def skip(sizes: CacheContext, quantised: int, skipped: int) -> CacheContext:
    return align_skip_layers(
        sizes,
        backends("FLASHINFER")[0],
        quantised_bytes_per_token=quantised,
        skipped_bytes_per_token=skipped,
    )


def test_quantised_page_covers_an_unquantised_one() -> None:
    # 16 unquantised tokens of 4096 bytes need 57 tokens of 1152: four times 16.
    sizes = skip(sized(16), 1152, 4096)
    assert sizes == sized(64, skip_page_size_padded=64 * 1152)


def test_skipped_layers_beside_states() -> None:
    sizes = skip(sized(16, mamba_page_size_padded=1_000_000), 1152, 4096)
    assert sizes.block_size == 880
    assert sizes.mamba_page_size_padded == sizes.skip_page_size_padded == 880 * 1152


def test_skipped_layers_of_the_same_size() -> None:
    sizes = sized(16)
    assert skip(sizes, 4096, 4096) is sizes
    with pytest.raises(UnsupportedError, match="less than"):
        skip(sizes, 4096, 1024)


def test_check_aligned() -> None:
    check_aligned(backends("FLASHMLA"), 16, 16)
    check_aligned(backends("FLASHMLA"), 16, 128)
    with pytest.raises(UnsupportedError, match="FLASHMLA"):
        check_aligned(backends("FLASH_ATTN", "FLASHMLA"), 16, 528)


def test_validate() -> None:
    validate_block_size(16, decode_context_parallel_size=2, cp_kv_cache_interleave_size=8)
    validate_block_size(16, cp_kv_cache_interleave_size=7)
    for interleave in (12, 32):
        with pytest.raises(InputError, match="interleave"):
            validate_block_size(
                16, decode_context_parallel_size=2, cp_kv_cache_interleave_size=interleave
            )
