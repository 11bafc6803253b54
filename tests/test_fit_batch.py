"""The batch that is chosen: vLLM's own, else the largest that works."""

from __future__ import annotations

from functools import cache

from hypothesis import example, given, settings
from hypothesis import strategies as st

from vllm_kv_planner.capacity.fit.measure import Measure, Measured
from vllm_kv_planner.capacity.fit.solve import best_batch
from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.planner import plan_of
from vllm_kv_planner.planning.request import PlanRequest, plan_request

from .fit_cases import GPUS, MODELS

MEASURE = Measure()
NOTHING: frozenset[str] = frozenset()


@cache
def engine(model: str, gpu: str) -> PlanRequest:
    return plan_request(model, gpu=gpu, planner="standalone", max_model_len=4096)


def measured(request: PlanRequest) -> Measured | None:
    try:
        return MEASURE(request)
    except PlannerError:
        return None


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.sampled_from(GPUS),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 3, 16, 100, 256, 1024]),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([512, 2048, 3000]),
    st.sampled_from([1, 2, 4]),
)
def test_a_smaller_batch_never_holds_fewer(
    model: str, gpu: str, tp: int, seqs: int, fewer: int, tokens: int, less: int
) -> None:
    request = engine(model, gpu).with_args(tensor_parallel_size=tp)
    large = measured(request.with_args(max_num_seqs=seqs, max_num_batched_tokens=max(tokens, seqs)))
    small_seqs = max(seqs // fewer, 1)
    small = measured(
        request.with_args(
            max_num_seqs=small_seqs,
            max_num_batched_tokens=max(tokens, seqs) // less
            if max(tokens, seqs) // less >= small_seqs
            else max(tokens, seqs),
        )
    )
    if large is None or small is None:
        return
    assert small.available_bytes >= large.available_bytes
    assert (small.requests or 0) >= (large.requests or 0)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.sampled_from(GPUS),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 300),
)
@example("deepseek-ai/DeepSeek-V3", "B200", 4, 1)  # once offered one request where 16 fit
def test_the_choice_against_every_batch(model: str, gpu: str, tp: int, requests: int) -> None:
    request = engine(model, gpu).with_args(tensor_parallel_size=tp)
    default = measured(request)
    if default is None:
        return
    chosen, got = best_batch(request, requests, NOTHING, MEASURE)
    assert MEASURE(chosen) == got
    if default.holds(requests):
        assert chosen == request
        return
    tokens = default.max_num_batched_tokens
    every = [
        request.with_args(max_num_seqs=seqs, max_num_batched_tokens=max(step, seqs))
        for step in {tokens, 2048}
        for seqs in [requests, default.most_seqs or 1, *(1 << power for power in range(11))]
        if default.max_num_seqs >= seqs >= requests or seqs == requests
        if step <= tokens
    ]
    working = [each for each in map(measured, every) if each and each.holds(requests)]
    assert got.holds(requests) == bool(working)
    if not working:
        return
    # the default step of tokens if that is possible at all, and then the most requests
    with_default = [each for each in working if each.max_num_batched_tokens >= tokens]
    most = max(each.max_num_seqs for each in with_default or working)
    assert got.max_num_seqs == most
    if with_default:
        assert got.max_num_batched_tokens >= tokens


def test_a_smaller_batch_is_no_smaller_than_it_must_be() -> None:
    """vLLM's own tokens shrink with one request a step; with 2,048 named, many fit."""
    request = plan_request(
        "deepseek-ai/DeepSeek-V3",
        gpu="B200",
        tensor_parallel_size=4,
        max_model_len=4096,
        gpu_memory_utilization=0.932,
    )
    chosen, got = best_batch(request, 1, NOTHING, MEASURE)
    assert got.holds(1) and got.max_num_seqs >= 16
    assert chosen.args.max_num_batched_tokens == 2048
    twice = chosen.with_args(max_num_seqs=2 * got.max_num_seqs)
    assert not MEASURE(twice).holds(1)


def test_states_bound_the_sequences() -> None:
    request = plan_request("Qwen/Qwen3.5-27B", gpu="H100", max_model_len=8192)
    first = MEASURE(request)
    assert first.most_seqs is not None and not first.fits
    chosen, got = best_batch(request, 4, NOTHING, MEASURE)
    assert got.holds(4) and got.max_num_seqs == first.most_seqs
    assert plan_of(chosen).fits


def test_fixed_batches_stay() -> None:
    request = engine("meta-llama/Llama-3.1-8B-Instruct", "L4").with_args(max_num_seqs=4)
    chosen, got = best_batch(request, 5, frozenset(["max_num_seqs"]), MEASURE)
    assert got.max_num_seqs == 4 and not got.holds(5)
    tight = engine("meta-llama/Llama-3.1-8B-Instruct", "L4").with_args(max_num_batched_tokens=64)
    chosen, got = best_batch(tight, 65, frozenset(["max_num_batched_tokens"]), MEASURE)
    assert chosen.args.max_num_batched_tokens == 64 and not got.holds(65)


def test_more_requests_than_vllm_takes_by_default() -> None:
    """L4: 256 requests and 2,048 tokens a step by default; 2,500 of 64 tokens need both raised."""
    request = plan_request("gpt2", gpu="L4", max_model_len=64, gpu_memory_utilization=0.7)
    chosen, got = best_batch(request, 2500, NOTHING, MEASURE)
    assert got.holds(2500)
    assert (chosen.args.max_num_seqs, chosen.args.max_num_batched_tokens) == (2500, 2500)
