"""The attention backend of a layer, against the answers of vLLM 0.33.0's own selector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vllm_kv_planner.engine_args.attention_backend import (
    EngineFacts,
    Preferences,
    boundary_skip_layers,
    choose,
    declared,
    names_in,
    preferences_of,
    select_backend,
    select_cpu_backend,
)
from vllm_kv_planner.engine_args.attention_backend.declaration import Situation
from vllm_kv_planner.engine_args.attention_backend.kv_dtypes import check_known
from vllm_kv_planner.engine_args.flag_table import flag_of
from vllm_kv_planner.errors import UnknownNameError, UnsupportedError
from vllm_kv_planner.model.layers.base import BackendRequest
from vllm_kv_planner.records import replace

from .backend_cases import BLACKWELL, DEEPSEEK, HOPPER, LLAMA, V3

ANSWERS = Path(__file__).parent / "fixtures" / "attention_backends_vllm_0_33_0.jsonl"
SPARSE = replace(DEEPSEEK, use_sparse=True)

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
    ids=lambda x: "" if "origin" in x else f"{x['needs']}-{x['dtype']}-{x['kv_cache_dtypes'][0]}",
)
def test_same_choice_as_vllm(header: dict[str, Any], row: dict[str, Any]) -> None:
    sizes = header["mla_head_sizes" if row["needs"].get("mla") else "head_sizes"]
    for kv_cache_dtype in row["kv_cache_dtypes"]:
        for capabilities, letters in row["chosen"].items():
            for capability in capabilities.split():
                major, minor = map(int, capability.split("."))
                chosen = [
                    name_of_choice(row["needs"], row["dtype"], kv_cache_dtype, size, (major, minor))
                    for size in sizes
                ]
                assert chosen == [header["letters"].get(letter) for letter in letters], capability


def name_of_choice(
    needs: dict[str, Any], dtype: str, kv_cache_dtype: str, size: int, capability: tuple[int, int]
) -> str | None:
    request = BackendRequest(
        head_size=size,
        dtype=dtype,
        kv_cache_dtype=kv_cache_dtype,
        num_heads=needs.get("heads", 32),
        num_kv_heads=needs.get("kvh", 8),
        **{REQUEST_FIELDS[k]: v for k, v in needs.items() if k in REQUEST_FIELDS},
    )
    facts = replace(
        V3,
        head_size=size,
        num_attention_heads=request.num_heads,
        num_kv_heads=request.num_kv_heads,
        kv_cache_dtype=kv_cache_dtype,
        is_mm_prefix_lm=request.use_mm_prefix,
        decode_context_parallel_size=needs.get("dcp", 1),
        flash_attn_version=needs.get("fav"),
    )
    try:
        return choose(Situation(request, capability, needs.get("bs"), facts), None).name
    except UnsupportedError:
        return None


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


def test_refused_when_layers_are_built() -> None:
    capped = replace(EngineFacts.of_request(LLAMA), logits_soft_cap=True)
    with pytest.raises(UnsupportedError, match="cap attention logits"):
        select_backend(LLAMA, capability=HOPPER, requested="FLEX_ATTENTION", facts=capped)
    alibi = replace(EngineFacts.of_request(LLAMA), alibi=True)
    assert select_backend(LLAMA, capability=HOPPER, facts=alibi).name == "FLASH_ATTN"
    with pytest.raises(UnsupportedError, match="ALiBi"):
        select_backend(replace(LLAMA, kv_cache_dtype="fp8"), capability=HOPPER, facts=alibi)
    with pytest.raises(UnsupportedError, match="--block-size 64 or 128"):
        select_backend(LLAMA, capability=(12, 0), requested="B12X")
    b12x = select_backend(LLAMA, capability=(12, 0), requested="B12X", block_size=64)
    assert b12x.preferred_block_size() == 128
    with pytest.raises(UnsupportedError, match="fp8_ds_mla"):
        select_backend(
            SPARSE,
            capability=HOPPER,
            requested="FLASHMLA_SPARSE",
            facts=replace(V3, decode_context_parallel_size=2),
        )
    with pytest.raises(UnsupportedError, match="use --kv-cache-dtype float16"):
        select_backend(
            replace(LLAMA, dtype="float16", kv_cache_dtype="bfloat16"), capability=(7, 5)
        )


@pytest.mark.parametrize("table", ["cuda", "model", "rocm", "xpu"])
def test_every_row_of_the_tables_can_be_read(table: Any) -> None:
    dtypes = {*flag_of("kv_cache_dtype").names}
    for name in names_in(table):
        row = declared(table, name)
        assert row is not None
        assert row.name == name
        assert {*row.kv_cache_dtypes} <= dtypes
        assert {*row.dtypes} <= {"float16", "bfloat16", "float32"}
        assert {*row.attn_types} <= {"decoder", "encoder", "encoder_only", "encoder_decoder"}
    assert declared(table, "SDPA") is None


def test_unknown_kv_cache_dtype() -> None:
    assert all(check_known(name) == name for name in flag_of("kv_cache_dtype").names)
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
