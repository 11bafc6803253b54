"""What attention backends make of a layer's page, its stride and its kernel blocks."""

from __future__ import annotations

import pytest

from vllm_kv_planner.engine_args.attention_backend import (
    AttentionBackend,
    EngineFacts,
    fixed_backend,
    select_backend,
)
from vllm_kv_planner.engine_args.attention_backend.backend import (
    hybrid_bytes_per_token,
    layer_bytes_per_token,
)
from vllm_kv_planner.errors import UnsupportedError
from vllm_kv_planner.kv_cache.specs import (
    AttentionSpec,
    FullAttentionSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
)
from vllm_kv_planner.records import replace

from .backend_cases import BLACKWELL, DEEPSEEK, HOPPER, LLAMA, V3


def test_large_pages_need_grouped_queries() -> None:
    wide = select_backend(LLAMA, capability=BLACKWELL)
    assert wide.kernel_block_sizes() == (16, 32, 64, 128, 256, 512, 1024)
    alone = replace(LLAMA, num_kv_heads=32)
    assert select_backend(alone, capability=BLACKWELL).kernel_block_sizes() == (16, 32, 64)
    assert wide.largest_kernel_block(4096, 4096 * 1024, 16) == 64  # asked without the config


def test_head_size_256_on_blackwell_flash_attention() -> None:
    request = replace(LLAMA, head_size=256)
    backend = select_backend(request, capability=BLACKWELL, requested="FLASH_ATTN")
    assert backend.kernel_block_sizes() == (128,)
    capped = replace(EngineFacts.of_request(request), logits_soft_cap=True)
    backend = select_backend(request, capability=BLACKWELL, requested="FLASH_ATTN", facts=capped)
    assert backend.kernel_block_sizes() == (16,)
    assert backend.largest_kernel_block(8192, 8192 * 16, 16) == 128  # the spec does not know


def spec(kv_cache_dtype: str = "auto", head: int = 128, dtype_bytes: int = 1) -> FullAttentionSpec:
    return FullAttentionSpec(
        block_size=16,
        num_kv_heads=2,
        head_size=head,
        head_size_v=head,
        dtype_bytes=dtype_bytes,
        kv_cache_dtype=kv_cache_dtype,
    )


@pytest.mark.parametrize(
    ("kv_cache_dtype", "capability", "requested", "bytes_per_head"),
    [
        ("fp8", HOPPER, None, 256),
        ("int8_per_token_head", HOPPER, None, 256 + 8),
        ("fp8_per_token_head", HOPPER, None, 256 + 8),
        ("int4_per_token_head", HOPPER, None, 128 + 8),
        ("nvfp4", BLACKWELL, None, 2 * (64 + 8)),
        ("nvfp4_4over6", BLACKWELL, None, 2 * (64 + 8)),
        ("turboquant_k8v4", HOPPER, None, 128 + 64 + 4),
        ("turboquant_4bit_nc", HOPPER, None, 64 + 2 + 64 + 4),
        ("turboquant_k3v4_nc", HOPPER, None, 48 + 2 + 64 + 4),
        ("turboquant_3bit_nc", HOPPER, None, 48 + 2 + 48 + 4),
        ("ultraquant_4bit", HOPPER, "ULTRAQUANT", 128 + 8),
    ],
)
def test_packed_pages(
    kv_cache_dtype: str, capability: tuple[int, int], requested: str | None, bytes_per_head: int
) -> None:
    request = replace(LLAMA, kv_cache_dtype=kv_cache_dtype)
    backend = select_backend(request, capability=capability, requested=requested)
    page = backend.customize(spec(kv_cache_dtype)).page_size_bytes
    assert page == 16 * 2 * bytes_per_head


def test_odd_slots_are_rounded_up() -> None:
    backend = select_backend(
        replace(LLAMA, head_size=88, kv_cache_dtype="turboquant_3bit_nc"), capability=HOPPER
    )
    packed = backend.customize(spec("turboquant_3bit_nc", head=88))
    assert packed.state_content_bytes == 33 + 2 + 33 + 4
    packed = backend.customize(spec("turboquant_3bit_nc", head=84))
    assert packed.state_content_bytes == 32 + 2 + 32 + 4


def test_refused_packing() -> None:
    backend = select_backend(replace(LLAMA, kv_cache_dtype="nvfp4"), capability=BLACKWELL)
    with pytest.raises(UnsupportedError, match="one width"):
        backend.customize(replace(spec("nvfp4"), head_size_v=64))
    ultra = fixed_backend("ULTRAQUANT", capability=HOPPER, facts=V3)
    with pytest.raises(UnsupportedError, match="multiple of 32"):
        ultra.customize(spec("ultraquant_4bit", head=80))


def latent(kv_cache_dtype: str = "auto") -> MLAAttentionSpec:
    packed = {"fp8_ds_mla": 656, "nvfp4_ds_mla": 352}.get(kv_cache_dtype)
    return MLAAttentionSpec(
        block_size=256,
        num_kv_heads=1,
        head_size=576,
        dtype_bytes=2 if kv_cache_dtype == "auto" else 1,
        kv_cache_dtype=kv_cache_dtype,
        state_content_bytes=packed,
    )


@pytest.mark.parametrize(
    ("name", "capability", "kv_cache_dtype", "stride"),
    [
        ("FLASH_ATTN_MLA_SPARSE", HOPPER, "auto", 1152),
        ("FLASHMLA_SPARSE", HOPPER, "fp8_ds_mla", 64 * 656),
        ("FLASHMLA_SPARSE", BLACKWELL, "fp8_ds_mla", 656),
        ("FLASHMLA_SPARSE", BLACKWELL, "auto", 1152),
        ("FLASHINFER_MLA_SPARSE", BLACKWELL, "fp8", 32 * 576),
        ("FLASH_ATTN_MLA_SPARSE_FA4", BLACKWELL, "auto", 64 * 1152),
        ("FLASHINFER_MLA_SPARSE_SM120", (12, 0), "fp8_ds_mla", 64 * 656),
        ("FLASHMLA", HOPPER, "auto", 64 * 1152),  # exact kernel blocks stay whole
        ("TRITON_MLA", HOPPER, "auto", 1),
    ],
)
def test_block_stride(
    name: str, capability: tuple[int, int], kv_cache_dtype: str, stride: int
) -> None:
    backend = fixed_backend(name, capability=capability, facts=V3)
    assert backend.customize(latent(kv_cache_dtype)).block_stride_alignment() == stride


def test_window_layers_take_the_largest_block_that_fits() -> None:
    backend = select_backend(LLAMA, capability=HOPPER)
    assert backend.largest_kernel_block(1000, 1000 * 100, 16) == 96
    assert backend.largest_kernel_block(1000, 10, 16) == 16
    window = SlidingWindowSpec(
        block_size=16, num_kv_heads=1, head_size=8, head_size_v=8, dtype_bytes=2, sliding_window=9
    )
    assert backend.customize(window) == window


@pytest.mark.parametrize(
    ("name", "capability", "sizes", "layouts"),
    [
        ("DEEPSEEK_V32_INDEXER", HOPPER, (64,), None),
        ("GLM5NEXT_INDEXER", HOPPER, (128, 256), None),
        ("GLM5NEXT_INDEXER", (12, 0), (256,), None),
        ("KPOOL_TAIL", HOPPER, (1,), ("BLHNC",)),
        ("DEEPSEEK_V4_INDEXER", HOPPER, (256,), ("BLHNC", "BLNHC")),
        ("DEEPSEEK_V41_INDEXER", HOPPER, (64,), ("BLHNC", "BLNHC")),
        ("FLASHMLA_SPARSE_DSV41", BLACKWELL, (128,), None),
        ("MINIMAX_M3_SPARSE", HOPPER, (128,), None),
        ("STEP5_DSA", HOPPER, (16,), ("BLNHC",)),
    ],
)
def test_backends_of_certain_models(
    name: str,
    capability: tuple[int, int],
    sizes: tuple[int, ...],
    layouts: tuple[str, ...] | None,
) -> None:
    backend = fixed_backend(name, capability=capability, facts=replace(V3, index_kpool=4))
    assert (backend.kernel_block_sizes(), backend.layouts) == (sizes, layouts)


def test_pooled_indexer_reads_its_pool_from_the_spec() -> None:
    backend = fixed_backend("GLM5NEXT_INDEXER", capability=HOPPER, facts=V3)
    pooled: AttentionSpec = replace(latent(), tokens_per_state=8, block_size=1024)
    assert backend.customize(pooled).block_stride_tokens == 512


def test_bytes_per_token() -> None:
    def backend(kv_cache_dtype: str) -> AttentionBackend:
        request = replace(LLAMA, kv_cache_dtype=kv_cache_dtype)
        return select_backend(request, capability=BLACKWELL)

    plain = backend("auto")
    assert layer_bytes_per_token(plain, dtype="bfloat16", kv_cache_dtype="auto") == 4096
    nvfp4 = backend("nvfp4")
    assert layer_bytes_per_token(nvfp4, dtype="bfloat16", kv_cache_dtype="nvfp4") == 8 * 144
    packed = hybrid_bytes_per_token(
        backend("turboquant_k8v4"),
        dtype="bfloat16",
        kv_cache_dtype="turboquant_k8v4",
        use_mla=False,
        has_skip_layers=True,
    )
    assert packed == 200_704  # lcm of 8 * 196 and 4096
    mla = select_backend(DEEPSEEK, capability=HOPPER, facts=V3)
    assert layer_bytes_per_token(mla, dtype="bfloat16", kv_cache_dtype="auto", use_mla=True) == 1152
