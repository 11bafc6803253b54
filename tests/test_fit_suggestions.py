"""What a single flag is said to buy, planned again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kv_planner.capacity.fit.measure import Measure
from vllm_kv_planner.capacity.fit.questions import suggest
from vllm_kv_planner.capacity.fit.suggestions import Suggestion, smallest_change, suggestions_of
from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.gpu.catalogue import find_gpu
from vllm_kv_planner.planner import plan_of
from vllm_kv_planner.planning.request import Machine, PlanRequest, plan_request

from .fit_cases import FLAGS, GPUS, MODELS

MEASURE = Measure()
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def changed(request: PlanRequest, suggestion: Suggestion) -> PlanRequest:
    if suggestion.flag == "gpu":
        return request.on(suggestion.value)
    return request.with_args(**{suggestion.flag: suggestion.value})


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(MODELS), st.sampled_from(GPUS), FLAGS, st.sampled_from([1, 1, 4, 50]))
def test_promises_are_kept(model: str, gpu: str, flags: dict[str, Any], concurrency: int) -> None:
    request = plan_request(model, gpu=gpu, planner="standalone", **flags)
    try:
        before = plan_of(request)
    except PlannerError:
        return
    engines = request.args.data_parallel_size
    found = suggestions_of(request, concurrency=concurrency, measure=MEASURE)
    assert [each.fits for each in found] == sorted((each.fits for each in found), reverse=True)
    assert len({each.flag for each in found}) == len(found)
    for each in found:
        again = changed(request, each)
        plan = plan_of(again)
        replicas = again.args.data_parallel_size
        assert plan.memory.available_kv_cache_bytes == each.available_kv_cache_bytes
        assert (
            each.available_kv_cache_bytes - before.memory.available_kv_cache_bytes
            == each.available_delta_bytes
        )
        assert plan.kv_cache.max_concurrency * replicas == each.concurrency
        assert plan.kv_cache.max_model_len_that_fits == each.max_model_len_that_fits
        if before.kv_cache.max_concurrency:
            had = before.kv_cache.max_concurrency * engines
            assert each.concurrency_ratio == pytest.approx(each.concurrency / had)
        if each.fits:
            assert plan.fits
            assert each.concurrency >= min(concurrency, each.concurrency)
            assert MEASURE(again).holds(-(-concurrency // replicas))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MODELS), st.sampled_from(GPUS), FLAGS)
def test_the_smallest_change_is_the_first_that_fits(
    model: str, gpu: str, flags: dict[str, Any]
) -> None:
    request = plan_request(model, gpu=gpu, planner="standalone", **flags)
    try:
        fits = plan_of(request).fits
    except PlannerError:
        return
    smallest = smallest_change(request, measure=MEASURE)
    every = [each for each in suggestions_of(request, measure=MEASURE) if each.fits]
    if MEASURE(request).holds(1):
        assert fits and smallest is None
    else:
        assert smallest == (every[0] if every else None)


def test_an_l4_that_lacks_a_little() -> None:
    """Qwen3 8B at 32K wants 4.5 GiB beside 15.3 of weights; half the cache fits a 24 GB card."""
    request = plan_request("Qwen/Qwen3-8B", gpu="L4", max_model_len=32768)
    assert not plan_of(request).fits
    by_flag = {each.flag: each for each in suggestions_of(request)}
    fp8 = by_flag["kv_cache_dtype"]
    assert (fp8.value, fp8.text, fp8.fits) == ("fp8", "--kv-cache-dtype fp8", True)
    assert fp8.concurrency_ratio is not None and 1.5 < fp8.concurrency_ratio < 2.1
    assert by_flag["max_model_len"].fits and by_flag["max_model_len"].value < 32768
    assert by_flag["gpu"].fits
    larger = find_gpu(by_flag["gpu"].value)
    assert larger.total_memory_bytes > find_gpu("L4").total_memory_bytes
    assert by_flag["enforce_eager"].available_delta_bytes > 0
    smallest = smallest_change(request)
    assert smallest is not None and smallest.fits


def test_the_smallest_share_that_is_enough() -> None:
    request = plan_request(LLAMA, gpu="H100", max_model_len=8192, gpu_memory_utilization=0.2)
    smallest = smallest_change(request)
    assert smallest is not None
    assert smallest.flag == "gpu_memory_utilization"
    assert 0.2 < smallest.value < 0.4
    less = request.with_args(gpu_memory_utilization=round(smallest.value - 0.01, 2))
    assert not plan_of(less).fits
    assert plan_of(request.with_args(gpu_memory_utilization=smallest.value)).fits


def test_a_share_that_is_not_free() -> None:
    """60 GiB of 80 are taken: 0.92 is not there, 0.2 is."""
    request = plan_request("gpt2", gpu="H100", machine=Machine(other_processes_bytes=60 << 30))
    assert not plan_of(request).fits
    smallest = smallest_change(request)
    assert smallest is not None and smallest.flag == "gpu_memory_utilization"
    assert smallest.value < 0.92
    assert "more of the GPU is left free" in smallest.costs
    assert plan_of(request.with_args(gpu_memory_utilization=smallest.value)).fits
    more = request.with_args(gpu_memory_utilization=round(smallest.value + 0.01, 2))
    assert not plan_of(more).fits


def test_more_requests_than_a_step_takes() -> None:
    request = plan_request("gpt2", gpu="H100", max_num_seqs=8)
    assert plan_of(request).fits
    smallest = smallest_change(request, concurrency=20)
    assert smallest is not None
    assert (smallest.flag, smallest.value) == ("max_num_seqs", 20)


def test_text_only_frees_the_encoder() -> None:
    request = plan_request("Qwen/Qwen2.5-VL-7B-Instruct", gpu="L4", max_model_len=8192)
    by_flag = {each.flag: each for each in suggestions_of(request)}
    only = by_flag["language_model_only"]
    # 675,759,104 parameters of the vision tower in bfloat16, at the least
    assert only.available_delta_bytes > 2 * 675_759_104
    assert only.text == "--language-model-only"


def test_videos_are_what_the_encoder_is_profiled_with() -> None:
    """Qwen2.5-VL: a video of up to 14 of the largest frames; an image is two of them."""
    request = plan_request("Qwen/Qwen2.5-VL-7B-Instruct", gpu="L40S", max_model_len=128000)
    by_flag = {each.flag: each for each in suggestions_of(request)}
    none = by_flag["limit_mm_per_prompt"]
    assert none.text == """--limit-mm-per-prompt '{"video": 0}'"""
    assert 0 < none.available_delta_bytes < by_flag["language_model_only"].available_delta_bytes
    llama = plan_request(LLAMA, gpu="L40S")
    assert "limit_mm_per_prompt" not in {each.flag for each in suggestions_of(llama)}


def test_what_vllm_refuses_is_not_suggested() -> None:
    """12 heads do not divide by 8; experts' models that keep no KV head twice stop at 8 ranks."""
    request = plan_request("gpt2", gpu="H100", tensor_parallel_size=4)
    flags = {each.flag for each in suggestions_of(request)}
    assert "tensor_parallel_size" not in flags
    assert "pipeline_parallel_size" in flags
    eager = plan_request("gpt2", gpu="H100", enforce_eager=True, kv_cache_dtype="fp8")
    flags = {each.flag for each in suggestions_of(eager)}
    assert not flags & {"enforce_eager", "kv_cache_dtype"}
    given = plan_request("gpt2", gpu="H100", kv_cache_memory_bytes=1 << 30)
    assert "gpu_memory_utilization" not in {each.flag for each in suggestions_of(given)}


def test_replicas_where_one_holds_some() -> None:
    request = plan_request(LLAMA, gpu="H100", max_model_len=32768)
    by_flag = {each.flag: each for each in suggestions_of(request, concurrency=20)}
    assert by_flag["data_parallel_size"].value == 2
    assert by_flag["data_parallel_size"].fits


def test_suggest_says_what_there_is() -> None:
    result = suggest("Qwen/Qwen3-8B", gpu="L4", max_model_len=32768)
    assert not result.fits and "needs 4.50 GiB" in result.why_not
    assert result.command == "vllm serve Qwen/Qwen3-8B --max-model-len 32768"
    assert "--kv-cache-dtype fp8: fits" in str(result)
    assert result.to_dict()["suggestions"][0]["fits"] is True
    enough = suggest(LLAMA, gpu="H100", max_model_len=8192)
    assert enough.fits and enough.why_not == ""
    few = suggest(LLAMA, gpu="H100", max_model_len=32768, concurrency=20)
    assert not few.fits and "of 20 requests" in few.why_not


def test_nothing_helps() -> None:
    """Sixteen ranks of a T4 hold no 405 billion parameters; and no card holds them alone."""
    request = plan_request("meta-llama/Llama-3.1-405B-Instruct", gpu="T4", max_model_len=1024)
    assert smallest_change(request) is None
    assert not any(each.fits for each in suggestions_of(request))


def test_only_requests_have_suggestions() -> None:
    with pytest.raises(PlannerError, match="a PlanRequest is needed"):
        suggestions_of("gpt2")  # type: ignore[arg-type]


def test_vllm_itself_is_not_asked_a_hundred_times() -> None:
    """No vLLM is here to be asked, and the rules restated here know the engine."""
    request = plan_request(LLAMA, gpu="L4", max_model_len=32768, planner="vllm")
    restated = plan_request(LLAMA, gpu="L4", max_model_len=32768, planner="standalone")
    assert suggestions_of(request) == suggestions_of(restated)


@pytest.mark.parametrize("share", [0.29, 0.57, 0.58, 0.925])
def test_shares_are_hundredths(share: float) -> None:
    """0.29 x 100 is 28.999999999999996 in floating point."""
    request = plan_request("gpt2", gpu="H100", gpu_memory_utilization=share)
    more = {each.flag: each for each in suggestions_of(request)}["gpu_memory_utilization"]
    assert more.value > share
    assert round(more.value, 2) == more.value
