"""The search's own way to know what a set-up holds says what whole plans say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kv_planner.capacity.fit.measure import Measure, measured_by_plan
from vllm_kv_planner.errors import InputError, PlannerError
from vllm_kv_planner.planner import plan_of
from vllm_kv_planner.planning.request import Machine, plan_request

from .fit_cases import FLAGS, GPUS, MODELS

MEASURE = Measure()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(MODELS), st.sampled_from(GPUS), FLAGS)
def test_a_measurement_is_the_plan(model: str, gpu: str, flags: dict[str, Any]) -> None:
    request = plan_request(model, gpu=gpu, planner="standalone", **flags)
    try:
        plan = plan_of(request)
    except PlannerError as refusal:
        with pytest.raises(type(refusal)) as caught:
            MEASURE(request)
        assert str(caught.value) == str(refusal)
        return
    measured = MEASURE(request)
    assert measured.fits == plan.fits
    assert measured.why_not == ("" if plan.fits else plan.notes[0])
    assert measured.available_bytes == plan.memory.available_kv_cache_bytes
    assert measured.weights_bytes == plan.memory.weights_bytes
    assert measured.requested_bytes == plan.memory.requested_bytes
    assert measured.concurrency == plan.kv_cache.max_concurrency
    assert measured.max_num_seqs == plan.engine.max_num_seqs
    assert measured.max_num_batched_tokens == plan.engine.max_num_batched_tokens
    assert measured.longest == plan.kv_cache.max_model_len_that_fits
    uncertainty = plan.memory.uncertainty_bytes
    assert measured.available_bytes - measured.pessimistic_bytes == uncertainty


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MODELS), st.sampled_from(GPUS), FLAGS)
def test_measured_by_whole_plans(model: str, gpu: str, flags: dict[str, Any]) -> None:
    """What the vLLM planner's answers go through; one stage, so that one figure says it all."""
    request = plan_request(
        model, gpu=gpu, planner="standalone", **{**flags, "pipeline_parallel_size": 1}
    )
    try:
        measured = MEASURE(request)
    except PlannerError:
        return
    again = measured_by_plan(request)
    for name in ("fits", "why_not", "available_bytes", "pessimistic_bytes", "concurrency"):
        assert getattr(again, name) == getattr(measured, name), name
    if measured.fits:
        assert again.pessimistic_requests == measured.pessimistic_requests
        assert again.requests == measured.requests


def test_whole_requests_leave_the_null_block_out() -> None:
    # Llama 3.1 8B: 2,097,152 bytes a block of 16 tokens; 100 blocks, one of them the null block
    request = plan_request(
        "meta-llama/Llama-3.1-8B-Instruct",
        gpu="L4",
        max_model_len=160,
        kv_cache_memory_bytes=100 * 2_097_152,
    )
    measured = Measure()(request)
    assert measured.blocks_per_request == 10
    assert measured.concurrency == 10.0
    assert measured.requests == measured.pessimistic_requests == 9
    assert measured.holds(9) and not measured.holds(10)
    assert measured.spare_bytes(9) == 9 * 2_097_152
    assert measured.requested_bytes is None  # given, and held against the L4: 16 GB of weights
    assert measured.weights_bytes == pytest.approx(16.06e9, rel=0.01)


def test_a_model_without_cache_is_bound_by_its_steps() -> None:
    measured = Measure()(plan_request("sentence-transformers/all-MiniLM-L6-v2", gpu="L4"))
    assert measured.requests is None
    assert measured.holds(measured.max_num_seqs)
    assert not measured.holds(measured.max_num_seqs + 1)


def test_refusals_are_remembered() -> None:
    measure = Measure()
    request = plan_request("gpt2", gpu="L4", tensor_parallel_size=5)
    for _ in range(2):
        with pytest.raises(InputError, match="divisible"):
            measure(request)


def test_machines_are_kept_apart() -> None:
    measure = Measure()
    busy = Machine(other_processes_bytes=20 << 30)
    idle = plan_request("gpt2", gpu="L4")
    assert measure(idle).fits
    assert not measure(plan_request(idle.found, gpu="L4", machine=busy)).fits
    assert measure(idle).fits


def test_replicas_with_experts_share_them() -> None:
    """DeepSeek-V3: 256 experts over 8 GPUs are an eighth of them on each."""
    measure = Measure()
    flags: dict[str, Any] = {"gpu": "H200", "enable_expert_parallel": True, "max_model_len": 4096}
    eight = plan_request("deepseek-ai/DeepSeek-V3", data_parallel_size=8, **flags)
    two = plan_request("deepseek-ai/DeepSeek-V3", data_parallel_size=2, **flags)
    assert measure.weights_bytes(eight) < measure.weights_bytes(two) / 2
