"""Answers of ``fit`` that are known from elsewhere: arithmetic by hand, published set-ups."""

from __future__ import annotations

from typing import Any

from vllm_kv_planner.capacity.fit.fit import fit


def test_llama_70b_does_not_fit_one_h100() -> None:
    """141.1 GB of weights in bfloat16, in cards of 80 GB; tensor parallel 3 divides no 64 heads."""
    result = fit("meta-llama/Llama-3.1-70B-Instruct", gpu="H100", context=8192, top=1000)
    best = result.best
    assert best is not None
    assert (best.num_gpus, best.tensor_parallel_size) == (2, 2)
    assert best.limited_by == "weights"
    assert best.why_not_fewer.startswith("1 GPU: weights of 131.")
    assert {offer.tensor_parallel_size for offer in result.offers} <= {1, 2, 4, 8}


def test_llama_70b_for_twenty_requests_of_32k() -> None:
    """10 GiB a request (327,680 bytes a token): 200 GiB beside 131 GiB of weights.

    Four H100 (291 GiB to take) have too little for it, 160 GiB at most; six have enough, in
    any shape; with tensor parallelism alone it takes eight.
    """
    asked: dict[str, Any] = {"gpu": "H100", "context": 32768, "concurrency": 20, "top": 1000}
    result = fit("meta-llama/Llama-3.1-70B-Instruct", **asked)
    assert result.best is not None
    assert 4 < result.best.num_gpus <= 6
    alone = fit("meta-llama/Llama-3.1-70B-Instruct", pipeline_parallel_size=1, **asked)
    assert alone.best is not None
    assert (alone.best.num_gpus, alone.best.tensor_parallel_size) == (8, 8)
    assert alone.best.why_not_fewer.startswith("4 GPUs: KV cache for 1")
    counts = fit("meta-llama/Llama-3.1-70B-Instruct", gpu_counts=[8, 1, 2, 4], **asked)
    assert {offer.num_gpus for offer in counts.offers} == {8}


def test_gpt_oss_120b_leaves_almost_nothing_on_one_h100() -> None:
    """vLLM recipes: at 0.9 one H100 runs it with hardly any KV cache; 61 GiB of weights."""
    result = fit(
        "openai/gpt-oss-120b",
        gpu="H100",
        max_gpus=1,
        gpu_memory_utilization=0.9,
        context=8192,
        borderline=True,
    )
    offer = result.best or result.nearest
    assert offer is not None
    assert offer.available_kv_cache_bytes < 8 << 30
    assert offer.gpu_memory_utilization == 0.9


def test_deepseek_v3_fits_eight_h200_and_not_eight_h100() -> None:
    """671 billion parameters in fp8: 625 GiB and more, in 8 x 80 or 8 x 141 GB."""
    result = fit("deepseek-ai/DeepSeek-V3", gpu=("H100", "H200"), context=8192, more_gpus=True)
    assert {offer.gpu for offer in result.offers} == {"H200-141GB"}
    assert 8 in {offer.num_gpus for offer in result.offers}
    (missed,) = result.misses
    assert (missed.gpu, missed.num_gpus, missed.reason) == ("H100-SXM-80GB", 8, "weights")
    eight = fit("deepseek-ai/DeepSeek-V3", gpu="H200", context=8192, tensor_parallel_size=8)
    assert eight.best is not None and eight.best.pipeline_parallel_size == 1


def test_twenty_users_at_32k_on_two_l4() -> None:
    """80 GiB of KV cache in bfloat16 beside 15 GiB of weights do not go into 48 GB."""
    asked: dict[str, Any] = {"gpu": "L4", "max_gpus": 2, "context": 32768, "concurrency": 20}
    result = fit("meta-llama/Llama-3.1-8B-Instruct", kv_cache_dtype=("auto", "fp8"), **asked)
    assert result.offers == ()
    assert result.nearest is not None and result.nearest.kv_cache_dtype == "fp8"
    (missed,) = result.misses
    assert (missed.num_gpus, missed.reason) == (2, "kv_cache")
    assert any(each.fits and each.flag == "max_model_len" for each in result.suggestions)


def test_experts_are_divided_where_the_shape_cannot_be() -> None:
    """Qwen3 30B FP8: experts 768 wide; a sixteenth, 48, shares no block of 32 with 128."""
    asked: dict[str, Any] = {"gpu": "L4", "context": 8192, "pipeline_parallel_size": 1}
    sixteen = fit("Qwen/Qwen3-30B-A3B-FP8", max_nodes=2, tensor_parallel_size=16, **asked)
    assert [offer.enable_expert_parallel for offer in sixteen.offers] == [True]
    four = fit("Qwen/Qwen3-30B-A3B-FP8", tensor_parallel_size=4, data_parallel_size=1, **asked)
    assert [offer.enable_expert_parallel for offer in four.offers] == [False]


def test_what_cannot_be_divided_is_never_offered() -> None:
    """gpt-oss keeps no KV head twice: at most 8 ranks, and gpt2 has 12 heads: never 8."""
    result = fit("gpt2", gpu="L4", top=1000, concurrency=3000, pipeline_parallel_size=1)
    sizes = {offer.tensor_parallel_size for offer in result.offers}
    assert 8 not in sizes and 5 not in sizes


def test_the_whole_catalogue() -> None:
    result = fit("meta-llama/Llama-3.1-8B-Instruct", context=8192, top=1000, max_gpus=1)
    assert len(result.gpus) >= 50
    names = {offer.gpu for offer in result.offers}
    assert {"L4-24GB", "H100-SXM-80GB", "B200-180GB"} <= names
    assert "T4-16GB" not in names
    assert {miss.gpu for miss in result.misses} == set(result.gpus) - names
