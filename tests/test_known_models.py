"""Published models against values worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vllm_kv_planner
from tests.shared import config_files, needs_shared
from vllm_kv_planner import InputError, Plan
from vllm_kv_planner.planner import plan_of
from vllm_kv_planner.planning.request import plan_request

GIB = 1 << 30


def plan(model: str, memory: int = 40 * GIB, **flags: Any) -> Plan:
    return plan_of(plan_request(model, kv_cache_memory_bytes=memory, **flags))


@pytest.mark.parametrize(
    ("model", "flags", "per_token"),
    [
        ("gpt2", {}, 2 * 12 * 12 * 64 * 2),
        ("meta-llama/Llama-3.1-8B-Instruct", {}, 2 * 32 * 8 * 128 * 2),
        ("meta-llama/Llama-3.1-8B-Instruct", {"kv_cache_dtype": "fp8"}, 2 * 32 * 8 * 128),
        ("meta-llama/Llama-2-70b-hf", {}, 2 * 80 * 8 * 128 * 2),
        ("meta-llama/Llama-2-70b-hf", {"tensor_parallel_size": 8}, 2 * 80 * 128 * 2),
        # 8 KV heads on 16 ranks: each still holds one
        ("meta-llama/Llama-2-70b-hf", {"tensor_parallel_size": 16}, 2 * 80 * 128 * 2),
        ("deepseek-ai/DeepSeek-V3", {}, 61 * 576 * 2),
        ("deepseek-ai/DeepSeek-V3", {"tensor_parallel_size": 8}, 61 * 576 * 2),
        ("deepseek-ai/DeepSeek-V3", {"kv_cache_dtype": "fp8"}, 61 * 576),
        # only the 12 full layers of 24 grow
        ("openai/gpt-oss-20b", {}, 2 * 12 * 8 * 64 * 2),
    ],
)
def test_bytes_per_token(model: str, flags: dict[str, Any], per_token: int) -> None:
    flags = {"max_model_len": 1024, **flags}
    assert plan(model, **flags).kv_cache.bytes_per_token == per_token


def blocks_per_request(answer: Plan) -> int:
    return sum(group.blocks_per_request for group in answer.kv_cache.groups)


def test_gpt_oss_20b() -> None:
    answer = plan("openai/gpt-oss-20b", max_model_len=131_072, max_num_batched_tokens=8192)
    # 8192 for the full layers; ceil((127 + 2 x 8192) / 16) + 1 for the windows
    assert blocks_per_request(answer) == 8192 + 1033 == 9225


def test_gemma_3_27b() -> None:
    answer = plan("google/gemma-3-27b-it", max_model_len=131_072, max_num_batched_tokens=8192)
    assert blocks_per_request(answer) == 8192 + 6 * 1089


def test_gemma_3_4b_whose_file_omits_the_head_counts() -> None:
    needs_shared()
    answer = plan(str(config_files()["google/gemma-3-4b-it"]), max_model_len=8192)
    # transformers' class: 4 KV heads of 256; 34 layers, every sixth of them full
    assert answer.kv_cache.bytes_per_token == 2 * 5 * 4 * 256 * 2


def test_pipeline_stages_are_cut_as_vllm_cuts_them() -> None:
    # 32 layers in 3 stages: 11, 11, 10 would put the extra layers first; vLLM spares the last
    answer = plan("meta-llama/Llama-3.1-8B-Instruct", pipeline_parallel_size=3, max_model_len=1024)
    assert answer.kv_cache.bytes_per_block == 11 * 65_536


def test_context_parallel_ranks_share_tokens() -> None:
    flags = {"tensor_parallel_size": 8, "max_model_len": 32_768}
    whole = plan("deepseek-ai/DeepSeek-V3", **flags)
    shared = plan("deepseek-ai/DeepSeek-V3", decode_context_parallel_size=8, **flags)
    assert shared.kv_cache.max_concurrency == 8 * whole.kv_cache.max_concurrency
    assert shared.kv_cache.num_gpu_blocks == whole.kv_cache.num_gpu_blocks


def test_figures_are_per_data_parallel_engine() -> None:
    one = plan("gpt2")
    four = plan("gpt2", data_parallel_size=4)
    assert four.kv_cache == one.kv_cache
    assert (one.gpu.num_gpus, four.gpu.num_gpus) == (1, 4)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"tensor_parallel_size": 5}, "divisible"),
        ({"tensor_parallel_size": 4, "decode_context_parallel_size": 3}, "divisible"),
        ({"decode_context_parallel_size": 2, "tensor_parallel_size": 4}, "context parallel"),
        ({"pipeline_parallel_size": 0}, "pipeline"),
    ],
)
def test_what_vllm_refuses_is_refused(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan("meta-llama/Llama-3.1-8B-Instruct", **flags)


MODELS = st.sampled_from(
    [
        "meta-llama/Llama-3.1-8B-Instruct",
        "google/gemma-2-27b-it",
        "openai/gpt-oss-20b",
        "Qwen/Qwen3-Next-80B-A3B-Thinking",
        "deepseek-ai/DeepSeek-V3",
    ]
)
LENGTHS = st.integers(1024, 8192)
RANKS = st.sampled_from([1, 2, 4, 8])
# a shorter max_model_len would shrink the default batch, and with it what windows hold
BATCH = {"max_num_batched_tokens": 2048, "max_num_seqs": 64}


@given(MODELS, LENGTHS, RANKS)
def test_more_ranks_never_cost_a_rank_more(model: str, length: int, ranks: int) -> None:
    one = plan(model, max_model_len=length)
    many = plan(model, max_model_len=length, tensor_parallel_size=ranks)
    assert many.kv_cache.bytes_per_token <= one.kv_cache.bytes_per_token


@given(MODELS, st.integers(GIB, 60 * GIB))
def test_longest_context_fits_and_one_more_token_does_not(model: str, memory: int) -> None:
    longest = plan(model, memory, **BATCH).kv_cache.max_model_len_that_fits
    if longest:
        assert plan(model, memory, max_model_len=longest, **BATCH).fits
    try:
        assert not plan(model, memory, max_model_len=longest + 1, **BATCH).fits
    except InputError as refusal:
        assert "greater than the derived max_model_len" in str(refusal)


@pytest.mark.parametrize(
    ("memory", "tokens", "concurrency"), [(69.53, 336_566, 41.08), (59.06, 285_892, 34.9)]
)
def test_gemma_4_12b_as_published_starts_have_it(
    memory: float, tokens: int, concurrency: float
) -> None:
    """Two starts on GB10: a model without towers whose patches and sound are projected."""
    flags = {"gpu": "GB10", "max_model_len": 8192, "max_num_batched_tokens": 4096}
    answer = plan("google/gemma-4-12B-it", int(memory * GIB), vllm_version="0.22", **flags)
    assert answer.kv_cache.kv_cache_size_tokens == pytest.approx(tokens, rel=1e-4)
    assert answer.kv_cache.max_concurrency == pytest.approx(concurrency, abs=0.01)
    found = vllm_kv_planner.plan("google/gemma-4-12B-it", vllm_version="0.22", **flags)
    weights = found.memory.weights_bytes
    assert weights is not None
    assert weights == pytest.approx(22.75 * GIB, rel=0.005)  # 22.68 and 22.83 printed


@pytest.mark.parametrize(
    ("model", "flags", "weights", "kv"),
    [  # as published starts printed them
        (
            "RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic",
            {
                **{"gpu": "H100", "tensor_parallel_size": 2, "max_model_len": 16000},
                **{"block_size": 128, "vllm_version": "0.11"},
            },
            33.88,
            32.0,
        ),
        (
            "Qwen/Qwen3-Reranker-8B",
            {
                **{"gpu": "RTX PRO 6000", "max_model_len": 1024, "vllm_version": "0.20"},
                "gpu_memory_utilization": 0.85,
            },
            15.26,
            62.35,
        ),
        (
            "Qwen/Qwen3-Embedding-8B",
            {"gpu": "H100", "max_model_len": 8192, "runner": "pooling", "vllm_version": "0.12"},
            14.11,
            None,
        ),
        (
            "Qwen/Qwen3-Embedding-0.6B",
            {"gpu": "RTX 5090", "max_model_len": 2048, "runner": "pooling"},
            1.12,
            None,
        ),
    ],
)
def test_derived_presets_weigh_what_engines_printed(
    model: str, flags: dict[str, Any], weights: float, kv: float | None
) -> None:
    memory = vllm_kv_planner.plan(model, **flags).memory
    assert memory.weights_bytes is not None and memory.available_kv_cache_bytes is not None
    assert memory.weights_bytes / GIB == pytest.approx(weights, abs=0.02)
    if kv is not None:
        assert memory.available_kv_cache_bytes / GIB == pytest.approx(kv, rel=0.01)
