"""The inverse questions against every value tried one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kv_planner.capacity.fit.measure import Measure
from vllm_kv_planner.capacity.fit.questions import (
    fewest_gpus,
    least_utilization,
    longest_context,
    suggest,
)
from vllm_kv_planner.capacity.fit.solve import last_that, longest_length, smallest_utilization
from vllm_kv_planner.errors import InputError, PlannerError
from vllm_kv_planner.planner import plan_of
from vllm_kv_planner.planning.request import plan_request

from .fit_cases import GPUS, MODELS

MEASURE = Measure()


@given(st.integers(0, 50), st.integers(1, 50))
def test_bisection(first: int, more: int) -> None:
    for border in range(first, first + more):
        assert last_that(lambda n, border=border: n <= border, first, first + more) == border  # type: ignore[misc]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.sampled_from(GPUS),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([1, 2, 3]),
    st.integers(1, 40),
)
def test_the_longest_context(model: str, gpu: str, tp: int, dp: int, requests: int) -> None:
    request = plan_request(
        model,
        gpu=gpu,
        planner="standalone",
        tensor_parallel_size=tp,
        data_parallel_size=dp,
        max_num_seqs=64,
    )
    each = -(-requests // dp)

    def holds(length: int) -> bool:
        try:
            return MEASURE(request.with_args(max_model_len=length)).holds(each)
        except PlannerError:
            return False

    try:
        longest = longest_length(request, requests, MEASURE)
        most = MEASURE(request).model_len
    except PlannerError:
        return
    assert longest == 0 or holds(longest)
    # a sample of the longer ones, and of the shorter ones
    beyond = range(longest + 1, most + 1)
    assert not any(map(holds, [*beyond[:40], *beyond[:: max(len(beyond) // 40, 1)]]))
    assert all(map(holds, range(max(longest // 20, 1), longest, max(longest // 20, 1))))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.sampled_from(GPUS),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([1024, 8192]),
    st.integers(1, 40),
)
def test_the_smallest_utilization(
    model: str, gpu: str, tp: int, context: int, requests: int
) -> None:
    request = plan_request(
        model, gpu=gpu, planner="standalone", tensor_parallel_size=tp, max_model_len=context
    )
    if model == "gpt2":
        request = request.with_args(max_model_len=1024)
    try:
        found = smallest_utilization(request, requests, MEASURE)
    except PlannerError:
        return
    shares = [hundredths / 100 for hundredths in range(1, 101)]
    good = [
        share
        for share in shares
        if MEASURE(request.with_args(gpu_memory_utilization=share)).holds(requests)
    ]
    assert found == (min(good) if good else None)


def test_the_longest_context_on_this_card() -> None:
    """Llama 3.1 8B: 128 KiB a token; one of 131,072 tokens takes 16 GiB beside 15 of weights."""
    answers = longest_context("meta-llama/Llama-3.1-8B-Instruct", gpu=["L4", "H100"])
    small, large = answers.answers
    assert large.value == 131_072 and large.gpu == "H100-SXM-80GB"
    assert isinstance(small.value, int) and 10_000 < small.value < 40_000
    assert small.command.endswith(f"--max-model-len {small.value}")
    assert answers.answered and answers.max_model_len is None
    plan = plan_of(
        plan_request("meta-llama/Llama-3.1-8B-Instruct", gpu="L4", max_model_len=small.value)
    )
    assert plan.fits


def test_no_context_at_all() -> None:
    (answer,) = longest_context("meta-llama/Llama-3.1-70B-Instruct", gpu="H100").answers
    assert (answer.value, answer.command) == (None, "")
    assert answer.message


def test_more_requests_than_vllm_takes_by_default_are_made_room_for() -> None:
    (answer,) = longest_context("gpt2", gpu="L4", concurrency=300).answers
    assert answer.value == 1024
    assert "--max-num-seqs 300" in answer.command
    (fixed,) = longest_context("gpt2", gpu="L4", concurrency=300, max_num_seqs=20).answers
    assert fixed.value is None


def test_the_smallest_share_of_each_card() -> None:
    answers = least_utilization(
        "meta-llama/Llama-3.1-8B-Instruct", gpu=("H100", "T4"), max_model_len=8192
    )
    large, small = answers.answers
    assert isinstance(large.value, float) and 0.2 < large.value < 0.4
    assert f"--gpu-memory-utilization {large.value}" in large.command
    assert small.value is None
    with pytest.raises(InputError, match="reads no --gpu-memory-utilization"):
        least_utilization("gpt2", kv_cache_memory_bytes=1 << 30)


def test_the_fewest_of_each_card() -> None:
    asked: dict[str, Any] = {"context": 8192, "concurrency": 4, "max_gpus": 4}
    answers = fewest_gpus("meta-llama/Llama-3.1-70B-Instruct", gpu=("H100", "H200", "T4"), **asked)
    values = {answer.gpu: answer.value for answer in answers.answers}
    assert values["T4-16GB"] is None
    assert values["H200-141GB"] in (1, 2)
    assert values["H100-SXM-80GB"] == 2
    assert answers.concurrency == 4 and answers.max_model_len == 8192
    assert "T4-16GB" in str(answers) and "H100-SXM-80GB" in answers._repr_html_()


def test_refused_everywhere_is_one_line() -> None:
    for question in (longest_context, least_utilization, fewest_gpus):
        with pytest.raises(InputError, match="divisible"):
            question("gpt2", gpu=("H100", "L4"), tensor_parallel_size=5)
    with pytest.raises(InputError, match="--concurrency: 0"):
        longest_context("gpt2", concurrency=0)
    with pytest.raises(InputError, match="--concurrency: 0"):
        suggest("gpt2", concurrency=0)
