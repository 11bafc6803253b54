"""Draft models: their cache layers, lengths and weights, by hand and as vLLM itself has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vllm_kv_planner
from tests.speculative_cases import (
    CASES,
    CONFIGS,
    EAGLE3,
    GIB,
    LLAMA_8B,
    RECORDED,
    SMALL,
    DraftCase,
    mtp,
    with_draft,
    written,
)
from vllm_kv_planner import InputError, Plan, PlannerError, UnsupportedError
from vllm_kv_planner.planner import plan_of
from vllm_kv_planner.planning.request import plan_request

ROWS = {row["id"]: row for row in map(json.loads, RECORDED.read_text().splitlines())}


def plan(model: str, **arguments: Any) -> Plan:
    return plan_of(
        plan_request(
            model, gpu="H100", planner="standalone", kv_cache_memory_bytes=40 * GIB, **arguments
        )
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_as_vllm_plans_it(case: DraftCase, tmp_path: Path) -> None:
    row = ROWS[case.id]
    found = plan(case.target(tmp_path), **case.arguments(tmp_path))
    cache, engine = found.kv_cache, found.engine
    assert cache.num_gpu_blocks == row["num_gpu_blocks"]
    assert cache.kv_cache_size_tokens == row["kv_cache_size_tokens"]
    assert cache.max_concurrency == pytest.approx(row["max_concurrency"], rel=1e-12)
    assert cache.bytes_per_token == row["bytes_per_token"]
    assert cache.bytes_per_block == row["bytes_per_block"]
    assert engine.speculative == row["speculative"]
    assert engine.max_model_len == row["max_model_len"]
    assert engine.block_size == row["block_size"]
    groups = sorted(
        [g.kind, g.num_layers, g.block_size, g.page_size_bytes, g.blocks_per_request]
        for g in cache.groups
    )
    assert groups == row["groups"]


def test_one_layer_more_by_hand(tmp_path: Path) -> None:
    page = 2 * 8 * 16 * 128 * 2  # keys and values, KV heads, tokens, width, bytes
    found = plan(LLAMA_8B, speculative_config=with_draft(written(EAGLE3, tmp_path)))
    assert found.kv_cache.bytes_per_block == 33 * page
    assert found.kv_cache.num_gpu_blocks == 40 * GIB // (33 * page)
    assert found.engine.speculative == "eagle3"
    # 16 layers of a small model: 8 KV heads of 64
    found = plan(LLAMA_8B, speculative_config=with_draft(SMALL), tensor_parallel_size=2)
    assert found.kv_cache.bytes_per_token == (32 * 128 + 16 * 64) * 2 * 4 * 2


def test_where_a_drafts_config_comes_from(tmp_path: Path) -> None:
    """A note says so, and repeats what is to be known of that config."""
    bundled = plan(LLAMA_8B, speculative_config=with_draft(SMALL)).notes
    assert f"draft model {SMALL}: config bundled" in bundled
    path = written(EAGLE3, tmp_path)
    assert f"draft model {path}: config local" in "\n".join(
        plan(LLAMA_8B, speculative_config=with_draft(path)).notes
    )
    short = plan("Qwen/Qwen3-8B", speculative_config=with_draft("qwen3-0.6b")).notes
    assert any(note.startswith("draft model Qwen/Qwen3-0.6B: qwen3-0.6b") for note in short)
    assert not any("draft model" in note for note in plan(LLAMA_8B).notes)


def test_latent_layer_by_hand() -> None:
    for stages, layers in ((1, 62), (2, 31)):  # 31 and 30, and the draft on the last
        found = plan(
            "deepseek-ai/DeepSeek-V3",
            speculative_config=mtp(),
            tensor_parallel_size=8,
            pipeline_parallel_size=stages,
        )
        assert found.kv_cache.bytes_per_token == layers * 576 * 2
    assert any("adds 1 cache layer" in note for note in found.notes)


@given(layers=st.integers(1, 8), ranks=st.sampled_from([1, 2, 4, 8]), tokens=st.integers(1, 16))
def test_every_layer_of_the_draft_counts(
    tmp_path_factory: pytest.TempPathFactory, layers: int, ranks: int, tokens: int
) -> None:
    folder = tmp_path_factory.mktemp("eagle3")
    config = CONFIGS[EAGLE3] | {"num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(config))
    found = plan(
        LLAMA_8B,
        tensor_parallel_size=ranks,
        speculative_config=with_draft(str(folder), tokens, method="eagle3"),
    )
    assert found.kv_cache.bytes_per_token == (32 + layers) * 2 * 128 * (8 // ranks) * 2


def test_states_of_draft_tokens() -> None:
    """A state block more for every draft token: one, two that prefixes are cached in, and these."""
    for tokens in (1, 3):
        found = plan(
            "Qwen/Qwen3-Next-80B-A3B-Instruct",
            tensor_parallel_size=4,
            speculative_config=mtp(tokens),
        )
        blocks = {g.blocks_per_request for g in found.kv_cache.groups if g.kind == "mamba"}
        assert blocks == {3 + tokens}


def refusal(model: str, config: dict[str, Any], **arguments: Any) -> str:
    with pytest.raises(PlannerError) as caught:
        plan(model, speculative_config=config, **arguments)
    assert "\n" not in str(caught.value)
    return f"{type(caught.value).__name__}: {caught.value}"


def test_what_vllm_refuses() -> None:
    assert "should have the same vocabulary" in refusal(LLAMA_8B, with_draft("Qwen/Qwen3-0.6B"))
    assert "num_speculative_tokens must be provided" in refusal(
        "XiaomiMiMo/MiMo-7B-Base", {"method": "mtp"}
    )
    assert "not have enough slots" in refusal(
        LLAMA_8B, with_draft(SMALL, 8), max_num_batched_tokens=8, max_num_seqs=4
    )
    assert "cannot be larger than the draft model's 131072" in refusal(
        LLAMA_8B, with_draft(SMALL, max_model_len=400_000)
    )
    assert "cannot be other value than 1" in refusal(
        LLAMA_8B, with_draft(SMALL, draft_tensor_parallel_size=2)
    )
    assert "does not start" in refusal(LLAMA_8B, with_draft(SMALL), pipeline_parallel_size=2)


def test_what_vllm_refuses_of_other_drafts(tmp_path: Path) -> None:
    window = with_draft(written("for-gemma-2", tmp_path), method="eagle")
    assert "heads (28) must be divisible by tensor parallel" in refusal(
        "google/gemma-2-9b-it", window, tensor_parallel_size=8
    )
    assert "does not find the token embedding of GPT2" in refusal("gpt2", window)
    eagle = with_draft(written("EAGLE-LLaMA3.1-Instruct-8B", tmp_path))
    sparse = {"tensor_parallel_size": 8, "kv_cache_dtype": "fp8"}
    assert "fp8_ds_mla" in refusal("deepseek-ai/DeepSeek-V3.2", eagle, **sparse)
    experts = with_draft("Qwen/Qwen3-30B-A3B")
    assert "has experts and the target has none" in refusal("Qwen/Qwen3-32B", experts)
    one_rank = with_draft(SMALL, parallel_drafting=True, draft_tensor_parallel_size=1)
    assert "must be the same. Got 1 and 2" in refusal(LLAMA_8B, one_rank, tensor_parallel_size=2)
    assert "with LoRA the batch must hold 4096" in refusal(
        LLAMA_8B,
        with_draft(SMALL, 15),
        enable_lora=True,
        max_num_batched_tokens=2048,
        max_num_seqs=256,
    )


def test_modules_divide_the_tokens(tmp_path: Path) -> None:
    target = written("two-modules", tmp_path)
    assert "must be divisible by n_predict=2" in refusal(target, mtp(3))
    assert plan(target, speculative_config=mtp(4)).kv_cache.groups[0].num_layers == 14


def test_targets_without_inner_states(tmp_path: Path) -> None:
    draft = with_draft(written("for-gemma-2", tmp_path), method="eagle3")
    assert "does not support the EAGLE3 interface" in refusal("google/gemma-2-9b-it", draft)
    draft = with_draft(written("for-gpt-oss", tmp_path), method="eagle3")
    assert "UnsupportedError" in refusal("openai/gpt-oss-20b", draft, pipeline_parallel_size=2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"method": "mtp", "num_speculative_tokens": 1}, "'mtp': no rule for layers of Llama"),
        ({"method": "dflash", "model": SMALL, "num_speculative_tokens": 7}, "'dflash'"),
        ({"method": "dspark", "model": SMALL, "num_speculative_tokens": 7}, "'dspark'"),
        ({"method": "extract_hidden_states", "num_speculative_tokens": 1}, "extract_hidden"),
        (
            {"method": "eagle", "model": "google/gemma-2b", "num_speculative_tokens": 1},
            "EagleGemma",
        ),
    ],
)
def test_what_has_no_rule_is_refused_by_name(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message) as caught:
        plan(LLAMA_8B, speculative_config=config)
    assert "--planner vllm" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_speculative_tokens": 1.5}, "1.5; vLLM 0.33 takes a whole number above 0"),
        ({"num_speculative_tokens": -1}, "-1; vLLM 0.33 takes a whole number above 0"),
        ({"num_speculative_tokens": 1 << 60}, "must be a positive integer"),
        ({"model": 7}, "model is 7; vLLM 0.33 takes a text or null"),
        ({"model": ""}, "it must be a name"),
        ({"model": "no/such\nmodel"}, "draft model of --speculative-config"),
        ({"revision": 3}, "revision is 3; vLLM 0.33 takes a text"),
        ({"method": "mpt"}, "one of mtp"),
        ({"kv_cache_dtype": "fp9"}, "did you mean fp8"),
        ({"attention_backend": "FLASH"}, "did you mean FLASH"),
        ({"quantization": ["fp8"]}, r"\['fp8'\]; vLLM 0.33 takes a text or null"),
        ({"max_model_len": 0.5}, "0.5; vLLM 0.33 takes a whole number from 1 up or null"),
    ],
)
def test_nonsense_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(LLAMA_8B, speculative_config=with_draft(SMALL) | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 0},
        {"layer_types": ["sliding_attention"], "sliding_window": None},
        {"layer_types": ["sliding_attention"] * 5, "sliding_window": None},
        {"dflash_config": 5},
        {"dflash_config": {"use_swa": "yes"}},
        {"dflash_config": {"use_swa": True, "swa_window_size": -1}},
        {"is_causal": "no"},
        {"architectures": ["DFlash2DraftModel"]},
    ],
)
def test_a_hostile_dflash_config_is_refused_in_one_line(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["Qwen3-8B-DFlash-b16"] | changes))
    refusal("Qwen/Qwen3-8B", with_draft(str(tmp_path), method="dflash"))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": -1},
        {"num_attention_heads": "many"},
        {"num_hidden_layers": 10**12},
        {"architectures": 5},
        {"architectures": []},
        {"head_dim": float("nan")},
        {"transformer_layer_config": 3, "speculators_model_type": "eagle3"},
        {"speculators_model_type": {"a": 1}},
        {"max_position_embeddings": "x"},
    ],
)
def test_a_hostile_draft_config_is_refused_in_one_line(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS[EAGLE3] | changes))
    refusal(LLAMA_8B, with_draft(str(tmp_path), method="eagle3"))


PRINTED = [
    # DGX Spark, three start-up logs of the reference data: GiB of KV memory, what vLLM printed
    (
        "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4",
        "0.19.2",
        36.25,
        {
            "max_model_len": 131072,
            "kv_cache_dtype": "fp8",
            "mamba_ssm_cache_dtype": "float32",
            "max_num_seqs": 20,
        },
        (1_399_712, 27.81, 8432),
    ),
    ("Qwen/Qwen3.5-27B", "0.25.1", 80.17, {"max_num_seqs": 32}, (1_191_213, 4.54, 800)),
    (
        "Qwen/Qwen3.5-27B",
        "0.25.1",
        76.4,
        {"max_num_seqs": 32, "kv_cache_dtype": "fp8"},
        (2_192_477, 8.36, 1600),
    ),
]
"""The latter two ran Qwen3.8-27B, whose cache layers are those of Qwen3.5-27B."""


@pytest.mark.parametrize(("model", "version", "gib", "flags", "printed"), PRINTED)
def test_as_real_engines_printed(
    model: str, version: str, gib: float, flags: dict[str, Any], printed: tuple[int, float, int]
) -> None:
    found = vllm_kv_planner.plan(
        model,
        gpu="GB10",
        planner="standalone",
        vllm_version=version,
        kv_cache_memory_bytes=int(gib * GIB),
        enable_prefix_caching=False,
        speculative_config=mtp(3),
        **flags,
    )
    tokens, concurrency, block_size = printed
    assert found.kv_cache.kv_cache_size_tokens == tokens
    assert round(found.kv_cache.max_concurrency, 2) == concurrency
    assert found.engine.block_size == block_size
