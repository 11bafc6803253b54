"""The attention backend of a layer, against the answers of vLLM 0.33.0's own selector."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vllm_kv_planner.engine_args.attention_backend import (
    KV_CACHE_DTYPES,
    AttentionBackend,
    EngineFacts,
    Preferences,
    boundary_skip_layers,
    fixed_backend,
    hybrid_bytes_per_token,
    layer_bytes_per_token,
    preferences_of,
    select_backend,
    select_cpu_backend,
)
from vllm_kv_planner.engine_args.attention_backend.facts import Situation
from vllm_kv_planner.engine_args.attention_backend.kv_dtypes import check_known
from vllm_kv_planner.engine_args.attention_backend.select import choose
from vllm_kv_planner.engine_args.backend_request import BackendRequest
from vllm_kv_planner.errors import UnknownNameError, UnsupportedError
from vllm_kv_planner.kv_cache.specs import (
    AttentionSpec,
    FullAttentionSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
)

ANSWERS = Path(__file__).parent / "fixtures" / "attention_backends_vllm_0_33_0.jsonl"
LLAMA = BackendRequest(
    head_size=128, dtype="bfloat16", kv_cache_dtype="auto", num_heads=32, num_kv_heads=8
)
DEEPSEEK = BackendRequest(
    head_size=576,
    dtype="bfloat16",
    kv_cache_dtype="auto",
    num_heads=16,
    num_kv_heads=1,
    use_mla=True,
)
SPARSE = replace(DEEPSEEK, use_sparse=True)
V3 = EngineFacts(
    head_size=576,
    num_attention_heads=16,
    num_kv_heads=1,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    kv_lora_rank=512,
    index_topk=2048,
)
HOPPER, BLACKWELL = (9, 0), (10, 0)

REQUEST_FIELDS = {
    "sink": "has_sink",
    "mm": "use_mm_prefix",
    "sw": "has_sliding_window",
    "at": "attn_type",
    "ph": "use_per_head_quant_scales",
    "nc": "use_non_causal",
    "mla": "use_mla",
    "sparse": "use_sparse",
}
"""What the fixture's short names of a layer's needs stand for."""


def answers() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    header, *rows = map(json.loads, ANSWERS.read_text(encoding="utf-8").splitlines())
    return [(header, row) for row in rows]


@pytest.mark.parametrize(
    ("header", "row"),
    answers(),
    ids=lambda x: "" if "origin" in x else f"{x['needs']}-{x['dtype']}-{x['kv_cache_dtype']}",
)
def test_same_choice_as_vllm(header: dict[str, Any], row: dict[str, Any]) -> None:
    needs, kv_cache_dtype = row["needs"], row["kv_cache_dtype"]
    heads = needs.get("heads", 32)
    sizes = header["mla_head_sizes" if needs.get("mla") else "head_sizes"]
    asked = {REQUEST_FIELDS[k]: v for k, v in needs.items() if k in REQUEST_FIELDS}
    for capabilities, letters in row["chosen"].items():
        for capability in capabilities.split():
            major, minor = map(int, capability.split("."))
            for size, letter in zip(sizes, letters, strict=True):
                request = BackendRequest(
                    head_size=size,
                    dtype=row["dtype"],
                    kv_cache_dtype=kv_cache_dtype,
                    num_heads=heads,
                    num_kv_heads=1 if needs.get("mla") else 8,
                    **asked,
                )
                facts = replace(
                    EngineFacts.of_request(request, dcp=needs.get("dcp", 1)),
                    flash_attn_version=needs.get("fav"),
                    qk_nope_head_dim=128,
                    qk_rope_head_dim=64,
                    v_head_dim=128,
                    kv_lora_rank=512,
                    index_topk=2048,
                )
                situation = Situation(request, (major, minor), needs.get("bs"), facts)
                try:
                    name: str | None = choose(situation, None).name
                except UnsupportedError:
                    name = None
                assert name == header["letters"].get(letter), (capability, size)


@pytest.mark.parametrize(
    ("capability", "name", "block_size"),
    [
        ((7, 0), "TRITON_ATTN", 16),
        ((7, 5), "TRITON_ATTN", 16),
        ((8, 0), "FLASH_ATTN", 16),
        ((9, 0), "FLASH_ATTN", 16),
        ((10, 0), "FLASHINFER", 16),
        ((12, 0), "FLASH_ATTN", 16),
    ],
)
def test_plain_attention(capability: tuple[int, int], name: str, block_size: int) -> None:
    dtype = "bfloat16" if capability >= (8, 0) else "float16"
    backend = select_backend(replace(LLAMA, dtype=dtype), capability=capability)
    assert (backend.name, backend.preferred_block_size()) == (name, block_size)


@pytest.mark.parametrize(
    ("request_", "kv_cache_dtype", "capability", "name", "block_size"),
    [
        (DEEPSEEK, "auto", HOPPER, "FLASH_ATTN_MLA", 16),
        (DEEPSEEK, "fp8", HOPPER, "FLASHMLA", 64),
        (DEEPSEEK, "auto", BLACKWELL, "FLASHINFER_MLA", 32),
        (DEEPSEEK, "auto", (8, 0), "TRITON_MLA", 16),
        (SPARSE, "auto", HOPPER, "FLASH_ATTN_MLA_SPARSE", 64),
        (SPARSE, "fp8", HOPPER, "FLASHMLA_SPARSE", 64),
        (SPARSE, "fp8", BLACKWELL, "FLASHINFER_MLA_SPARSE", 32),
        (SPARSE, "nvfp4_ds_mla", BLACKWELL, "FLASHMLA_SPARSE", 64),
        (SPARSE, "fp8", (12, 0), "FLASHINFER_MLA_SPARSE_SM120", 64),
    ],
)
def test_latent_attention(
    request_: BackendRequest,
    kv_cache_dtype: str,
    capability: tuple[int, int],
    name: str,
    block_size: int,
) -> None:
    request_ = replace(request_, kv_cache_dtype=kv_cache_dtype)
    backend = select_backend(request_, capability=capability, facts=V3)
    assert (backend.name, backend.preferred_block_size()) == (name, block_size)


def test_head_widths_decide_on_blackwell() -> None:
    odd = replace(V3, qk_nope_head_dim=96)
    assert select_backend(DEEPSEEK, capability=BLACKWELL, facts=odd).name == "CUTLASS_MLA"
    r1 = replace(DEEPSEEK, kv_cache_dtype="fp8")
    assert (
        select_backend(r1, capability=BLACKWELL, requested="tokenspeed_mla", facts=V3).name
        == "TOKENSPEED_MLA"
    )


@pytest.mark.parametrize(
    ("change", "capability", "says"),
    [
        ({"kv_cache_dtype": "nvfp4"}, (7, 5), "kv_cache_dtype not supported"),
        ({"kv_cache_dtype": "nvfp4_4over6"}, (9, 0), "kv_cache_dtype not supported"),
        ({"kv_cache_dtype": "fp8", "head_size": 80}, (8, 0), "needs compute capability 8.9"),
        ({"kv_cache_dtype": "octave_k3v4"}, (9, 0), "AMD"),
        ({"kv_cache_dtype": "fp8_inc"}, (9, 0), "Gaudi"),
        ({"kv_cache_dtype": "ultraquant_4bit"}, (9, 0), "--attention-backend ULTRAQUANT"),
        ({"dtype": "float32", "kv_cache_dtype": "nvfp4"}, (10, 0), "nvfp4"),
        ({"head_size": 16, "has_sink": True}, (8, 0), "head_size"),
    ],
)
def test_refusals_name_the_reason(
    change: dict[str, Any], capability: tuple[int, int], says: str
) -> None:
    with pytest.raises(UnsupportedError, match=says) as refusal:
        select_backend(replace(LLAMA, **change), capability=capability)
    assert "\n" not in str(refusal.value)


def test_requested_backend() -> None:
    backend = select_backend(LLAMA, capability=HOPPER, requested="flashinfer")
    assert backend.name == "FLASHINFER"
    assert select_backend(LLAMA, capability=HOPPER, requested="auto").name == "FLASH_ATTN"
    with pytest.raises(UnsupportedError, match=r"7\.5: compute capability not supported"):
        select_backend(replace(LLAMA, dtype="float16"), capability=(7, 5), requested="FLASHINFER")
    with pytest.raises(UnknownNameError, match="FLASHINFER"):
        select_backend(LLAMA, capability=HOPPER, requested="flashinfr")


def test_unknown_kv_cache_dtype() -> None:
    assert all(check_known(name) == name for name in KV_CACHE_DTYPES)
    with pytest.raises(UnknownNameError, match="did you mean fp8"):
        check_known("fp8_e4m33")
    with pytest.raises(UnknownNameError, match="valid: auto, float16"):
        select_backend(replace(LLAMA, kv_cache_dtype="zzz"), capability=HOPPER)


def test_cpu() -> None:
    backend = select_cpu_backend(LLAMA)
    assert (backend.name, backend.preferred_block_size(128)) == ("CPU_ATTN", 128)
    assert backend.layouts == ("LBHNC",)
    assert select_cpu_backend(DEEPSEEK).preferred_block_size(128) == 16
    assert select_cpu_backend(DEEPSEEK, amx=True).name == "AMX_MLA"
    with pytest.raises(UnsupportedError):
        select_cpu_backend(SPARSE)
    with pytest.raises(UnsupportedError, match="int8_per_token_head"):
        select_cpu_backend(replace(LLAMA, kv_cache_dtype="int8_per_token_head"))


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


def test_gemma_4_wants_one_flash_attention() -> None:
    def prefer(capability: tuple[int, int], kv_cache_dtype: str = "auto") -> Preferences:
        return preferences_of(
            Preferences(),
            architecture="Gemma4ForCausalLM",
            head_sizes=(256, 512),
            capability=capability,
            kv_cache_dtype=kv_cache_dtype,
        )

    assert prefer(HOPPER).flash_attn_version == 4
    assert prefer(HOPPER, "fp8") == Preferences()
    assert prefer((8, 0)).backend == "TRITON_ATTN"


def test_other_preferences() -> None:
    def prefer(architecture: str, backend: str | None = None, kv: str = "auto") -> Preferences:
        return preferences_of(
            Preferences(backend=backend),
            architecture=architecture,
            head_sizes=(128,),
            capability=HOPPER,
            kv_cache_dtype=kv,
        )

    assert prefer("LlamaForCausalLM", "auto") == Preferences()
    assert prefer("LlamaForCausalLM", kv="turboquant_k8v4").flash_attn_version == 2
    assert prefer("EmbeddingGemma2Model").backend == "TRITON_ATTN"
    assert prefer("DiffusionGemmaForBlockDiffusion").use_non_causal
    assert prefer("UnlimitedOCRForCausalLM").flash_attn_version == 4
    with pytest.raises(UnsupportedError, match="use FLASH_ATTN"):
        prefer("UnlimitedOCRForCausalLM", "FLASHINFER")


def test_boundary_layers() -> None:
    assert boundary_skip_layers(32, is_hybrid=False) == ("0", "1", "30", "31")
    assert boundary_skip_layers(3, is_hybrid=False) == ("0", "2")
    assert boundary_skip_layers(1, is_hybrid=False) == ()
    assert boundary_skip_layers(32, is_hybrid=True) == ()


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
