"""What bounds rule out really does not fit."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kv_planner.capacity.fit.candidates import Candidate, Shape, rank_of
from vllm_kv_planner.capacity.fit.constraints import Wanted
from vllm_kv_planner.capacity.fit.measure import Measure
from vllm_kv_planner.capacity.fit.misses import Bounds
from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.gpu.catalogue import all_gpus, find_gpu
from vllm_kv_planner.planning.request import PlanRequest, plan_request

from .fit_cases import MODELS

MEASURE = Measure()
BOUNDS = {model: Bounds(MEASURE) for model in MODELS}


@cache
def engine(model: str) -> PlanRequest:
    return plan_request(model, planner="standalone")


def candidate(
    model: PlanRequest, gpu: str, dtype: str, sizes: tuple[int, int, int, bool]
) -> Candidate:
    device = find_gpu(gpu)
    shape = Shape(
        tensor_parallel_size=sizes[0],
        pipeline_parallel_size=sizes[1],
        data_parallel_size=sizes[2],
        enable_expert_parallel=sizes[3],
        num_nodes=1,
    )
    num_gpus = sizes[0] * sizes[1] * sizes[2]
    constraints = Wanted(gpu=gpu).constraints(model.args)
    return Candidate(
        rank=rank_of(constraints, device, num_gpus, 0, 0, shape),
        variant=0,
        gpu=device,
        num_gpus=num_gpus,
        kv_cache_dtype=dtype,
        shape=shape,
    )


SIZES = st.tuples(
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.sampled_from([gpu.short_name for gpu in all_gpus()]),
    st.sampled_from(["auto", "fp8"]),
    SIZES,
    st.integers(1, 400),
    st.sampled_from([1, 16, 256]),
)
def test_nothing_that_fits_is_ruled_out(
    model: str,
    gpu: str,
    dtype: str,
    sizes: tuple[int, int, int, bool],
    concurrency: int,
    max_num_seqs: int,
) -> None:
    """The smallest batch that vLLM knows how to run does not do it either."""
    request = engine(model)
    chosen = candidate(request, gpu, dtype, sizes)
    why = BOUNDS[model].why_hopeless(chosen, request, concurrency)
    if why is None:
        return
    each = -(-concurrency // sizes[2])
    small = chosen.request(request).with_args(max_num_seqs=max_num_seqs, max_num_batched_tokens=512)
    try:
        measured = MEASURE(small)
    except PlannerError:
        return
    held = measured.requests
    assert held is not None
    assert held < each or not measured.may_fit


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("gpu", ["H100", "L4", "MI300X"])
def test_dividing_never_makes_weights_fewer(model: str, gpu: str) -> None:
    whole = MEASURE.weights_bytes(engine(model).on(gpu))
    for size in (2, 4, 8):
        for flag in ("tensor_parallel_size", "pipeline_parallel_size"):
            divided = engine(model).on(gpu).with_args(**{flag: size})
            try:
                fullest = MEASURE.weights_bytes(divided)
            except PlannerError:
                continue
            assert fullest * size >= whole, (flag, size)


def test_the_bound_itself() -> None:
    """Llama 3.1 70B: 141,107,412,992 bytes in bfloat16 (8,192 wide, 80 layers), two of a card."""
    request = engine("meta-llama/Llama-3.1-70B-Instruct")
    bounds = Bounds(Measure())
    one = bounds.why_hopeless(candidate(request, "H100", "auto", (1, 1, 1, False)), request, 1)
    assert one is not None and one[0] == "weights"
    two = candidate(request, "H100", "auto", (2, 1, 1, False))
    assert bounds.why_hopeless(two, request, 1) is None or "KV cache" in str(
        bounds.why_hopeless(two, request, 1)
    )
    # 40 GiB a request of 131,072 tokens (327,680 bytes a token): 8 cards have no room for 100
    eight = bounds.why_hopeless(candidate(request, "H100", "auto", (8, 1, 1, False)), request, 100)
    assert eight is not None and eight[0] == "kv_cache"


def test_no_bound_where_nothing_is_predicted() -> None:
    request = engine("deepseek-ai/DeepSeek-V3")
    small = candidate(request, "T4", "auto", (1, 1, 1, False))
    for flags in ({"kv_cache_memory_bytes": 1 << 30}, {"num_gpu_blocks_override": 1000}):
        changed = request.with_args(**flags)
        assert Bounds(Measure()).why_hopeless(small, changed, 1) is None
