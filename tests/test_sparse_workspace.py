"""What sparse latent attention reserves in the profile run; sizes by hand from vLLM's sources."""

from __future__ import annotations

from typing import Any

import pytest

from tests.memory_engines import GIB, MIB, V1, peak_of, phase, rank_of, setup_of
from vllm_kv_planner.memory.cuda_graphs import graph_estimate
from vllm_kv_planner.memory.experts import expert_workspace
from vllm_kv_planner.memory.overheads import known_overheads
from vllm_kv_planner.memory.sparse import decode_logits, indexer_logits, sparse_workspace

GLM = "zai-org/GLM-5.2-FP8"
LONG = 1 << 20


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_expanded_rows_and_gathered_keys() -> None:
    """64 heads over 8 GPUs: 5 rows a token in bfloat16 with an fp8 cache, else the keys alone."""
    flags = {"tensor_parallel_size": 8, "max_model_len": LONG}
    queries = 8192 * 8 * 576 * 2
    cached = setup_of(GLM, "H200", kv_cache_dtype="fp8", **flags)
    assert sparse_workspace(rank_of(cached, "0.22.0")) == 5 * LONG * 576 * 2 + queries
    plain = setup_of(GLM, "H200", **flags)
    assert sparse_workspace(rank_of(plain, "0.22.0")) == 40 * LONG * 132 + MIB
    # from 0.32 on fewer where the context is long
    assert sparse_workspace(rank_of(plain, "0.32.0")) == 16 * LONG * 132 + MIB
    short = setup_of(GLM, "H200", **{**flags, "max_model_len": 131072})
    assert sparse_workspace(rank_of(short, "0.32.0")) == 40 * 131072 * 132 + MIB


def test_it_shares_the_experts_workspace_and_stays() -> None:
    flags = {"tensor_parallel_size": 8, "max_model_len": LONG, "kv_cache_dtype": "fp8"}
    setup = setup_of(GLM, "H200", environment=V1, **flags)
    rank = rank_of(setup, "0.22.0")
    assert expert_workspace(rank) < sparse_workspace(rank)
    peak = peak_of(setup, "0.22.0")
    assert phase(peak, "sampler")["workspace"] == sparse_workspace(rank)
    assert phase(peak, "forward")["workspace"] == sparse_workspace(rank)


def test_groups_of_tokens_have_one_key() -> None:
    setup = setup_of("deepseek-ai/DeepSeek-V4-Flash", "H100", tensor_parallel_size=8)
    rank = rank_of(setup, "0.31.0")
    assert sparse_workspace(rank) == max(
        40 * 8192 // 4 * 132 + MIB, 4 * (8192 // 4 + rank.tokens) * 512 * 2
    )


def test_logits_of_the_indexer() -> None:
    setup = setup_of(GLM, "H200", tensor_parallel_size=8)
    assert indexer_logits(rank_of(setup, "0.18.0")) == 0
    assert indexer_logits(rank_of(setup, "0.22.0")) == 512 * MIB


def test_dense_attention_reserves_nothing() -> None:
    for model in ("meta-llama/Llama-3.1-8B-Instruct", "deepseek-ai/DeepSeek-V3"):
        rank = rank_of(setup_of(model, tensor_parallel_size=8), "0.33.0")
        assert sparse_workspace(rank) == indexer_logits(rank) == 0


def test_sparse_attention_scores_every_row_against_a_whole_context() -> None:
    """GLM-5.2-NVFP4 on four GPUs of 184 GiB, 0.26, printed 4.99 GiB for 51 and 51 graphs."""
    flags: dict[str, Any] = {
        "tensor_parallel_size": 4,
        "enable_expert_parallel": True,
        "max_model_len": 819200,
        "kv_cache_dtype": "fp8",
        "attention_backend": "FLASHINFER_MLA_SPARSE",
    }
    rank = rank_of(setup_of("nvidia/GLM-5.2-NVFP4", gpu="GB200", **flags), "0.26")
    estimate = graph_estimate(rank, known_overheads().graphs).estimate_bytes
    assert decode_logits(rank, 512) == 512 * 819200 * 4
    assert estimate / GIB == pytest.approx(4.99, rel=0.1)
    flags["max_model_len"] = 409600
    short = rank_of(setup_of("nvidia/GLM-5.2-NVFP4", gpu="GB200", **flags), "0.26")
    less = estimate - graph_estimate(short, known_overheads().graphs).estimate_bytes
    assert less == pytest.approx(2 * 512 * 409600 * 4, rel=0.001)
    assert decode_logits(rank_of(setup_of()), 512) == 0
