"""``fit`` against brute force, and answers known from elsewhere."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kv_planner.capacity.fit.fit import fit
from vllm_kv_planner.capacity.fit.measure import Measure
from vllm_kv_planner.capacity.fit.measured import Measured
from vllm_kv_planner.capacity.fit.result import Offer
from vllm_kv_planner.capacity.request import PlanRequest, plan_request
from vllm_kv_planner.errors import InputError, PlannerError
from vllm_kv_planner.gpu.catalogue import find_gpu

from .fit_cases import MODELS

MEASURE = Measure()

Size = tuple[int, int, int]
"""Replicas, stages, ranks that share a layer: the order of preference."""


@cache
def engine(model: str, context: int) -> PlanRequest:
    return plan_request(model, planner="standalone", max_model_len=context)


def measured(request: PlanRequest) -> Measured | None:
    try:
        return MEASURE(request)
    except PlannerError:
        return None


def batches(request: PlanRequest, least: int) -> list[Measured]:
    """The default, and every smaller one that still takes so many requests."""
    default = measured(request)
    if default is None:
        return []
    found = [default]
    for step in {default.max_num_batched_tokens, 2048}:
        for seqs in (least, *(1 << power for power in range(11))):
            if seqs >= least and step <= default.max_num_batched_tokens:
                changed = request.with_args(
                    max_num_seqs=seqs, max_num_batched_tokens=max(step, seqs)
                )
                each = measured(changed)
                if each is not None:
                    found.append(each)
    return found


def chosen(every: list[Measured], least: int) -> Measured | None:
    """The default where it works; else the default step, then the most requests in a step."""
    if every and every[0].holds(least):
        return every[0]
    good = [each for each in every if each.holds(least)]
    step = every[0].max_num_batched_tokens if every else 0
    order = sorted(good, key=lambda b: (b.max_num_batched_tokens >= step, b.max_num_seqs))
    return order[-1] if order else None


def brute_force(
    model: str, gpus: tuple[str, ...], dtypes: tuple[str, ...], context: int, wanted: int, most: int
) -> dict[tuple[Any, ...], int]:
    """Every set-up that does it, by its rank, with the requests it surely holds at the default
    batch, or else at the best one."""
    found: dict[tuple[Any, ...], int] = {}
    for gpu in map(find_gpu, gpus):
        for dp in range(1, most + 1):
            for pp in range(1, most // dp + 1):
                for tp in range(1, most // dp // pp + 1):
                    for order, dtype in enumerate(dtypes):
                        each = -(-wanted // dp)
                        request = (
                            engine(model, context)
                            .on(gpu)
                            .with_args(
                                tensor_parallel_size=tp,
                                pipeline_parallel_size=pp,
                                data_parallel_size=dp,
                                enable_expert_parallel="A3B" in model and dp > 1,
                                kv_cache_dtype=dtype,
                            )
                        )
                        best = chosen(batches(request, each), each)
                        if best is not None:
                            number = tp * pp * dp
                            rank = (number, number * gpu.total_memory_bytes, order, dp, pp, tp)
                            first = best.pessimistic_requests
                            assert first is not None
                            found[(*rank, gpu.short_name, dtype)] = first * dp
    return found


def rank(offer: Offer, dtypes: tuple[str, ...]) -> tuple[Any, ...]:
    return (
        offer.num_gpus,
        offer.total_memory_bytes,
        dtypes.index(offer.kv_cache_dtype),
        offer.data_parallel_size,
        offer.pipeline_parallel_size,
        offer.tensor_parallel_size,
        offer.gpu,
        offer.kv_cache_dtype,
    )


SMALL_GRID = st.tuples(
    st.sampled_from(
        [
            "meta-llama/Llama-3.1-8B-Instruct",
            "Qwen/Qwen3-30B-A3B",
            "google/gemma-3-27b-it",
            "Qwen/Qwen2.5-VL-7B-Instruct",
            "gpt2",
        ]
    ),
    st.sampled_from([("L4",), ("L4", "RTX 4090"), ("H100", "L4"), ("A100-40GB", "L40S", "T4")]),
    st.sampled_from([("auto",), ("auto", "fp8"), ("fp8", "auto")]),
    st.sampled_from([1024, 8192, 32768]),
    st.integers(1, 60),
    st.sampled_from([1, 2, 4]),
)


@settings(max_examples=60, deadline=None)
@given(SMALL_GRID, st.booleans())
def test_nothing_better_is_missed(
    grid: tuple[str, tuple[str, ...], tuple[str, ...], int, int, int], more_gpus: bool
) -> None:
    model, gpus, dtypes, context, wanted, most = grid
    if model == "gpt2":
        context = 1024
    result = fit(
        model,
        gpu=gpus,
        kv_cache_dtype=dtypes,
        context=context,
        concurrency=wanted,
        max_gpus=most,
        more_gpus=more_gpus,
        top=1000,
    )
    every = brute_force(model, gpus, dtypes, context, wanted, most)
    offered = {rank(offer, dtypes): offer for offer in result.offers}
    assert list(offered) == sorted(offered)
    assert set(offered) <= set(every)
    assert bool(offered) == bool(every)
    if every:
        assert next(iter(offered)) == min(every)
    for key in sorted(every):
        if key in offered:
            continue
        number, _, order, _, _, _, gpu, dtype = key
        fewer = [k for k in every if k[0] < number and k[6:] == (gpu, dtype)]
        if fewer and not more_gpus:
            continue
        # left out only because one before it, of the same device, holds as many
        better = [
            offer.sure_requests
            for mine, offer in offered.items()
            if mine < key and mine[2] <= order and offer.gpu == gpu and offer.sure_requests
        ]
        assert better and max(better) >= every[key], key


@settings(max_examples=20, deadline=None)
@given(SMALL_GRID, st.integers(1, 5))
def test_the_first_offers_are_the_first_of_all(
    grid: tuple[str, tuple[str, ...], tuple[str, ...], int, int, int], top: int
) -> None:
    model, gpus, dtypes, context, wanted, most = grid
    asked: dict[str, Any] = {
        "gpu": gpus,
        "kv_cache_dtype": dtypes,
        "context": min(context, 1024) if model == "gpt2" else context,
        "concurrency": wanted,
        "max_gpus": most,
    }
    some, every = fit(model, top=top, **asked), fit(model, top=1000, **asked)
    assert some.offers == every.offers[:top]
    assert some.tried <= every.tried


@settings(max_examples=40, deadline=None)
@given(SMALL_GRID, st.booleans())
def test_every_offer_is_planned_again_and_fits(
    grid: tuple[str, tuple[str, ...], tuple[str, ...], int, int, int], borderline: bool
) -> None:
    model, gpus, dtypes, context, wanted, most = grid
    result = fit(
        model,
        gpu=gpus,
        kv_cache_dtype=dtypes,
        context=min(context, 1024) if model == "gpt2" else context,
        concurrency=wanted,
        max_gpus=most,
        borderline=borderline,
    )
    for offer in result.offers:
        plan = offer.plan()
        assert plan.fits == offer.surely or borderline
        replicas = offer.data_parallel_size
        assert plan.kv_cache.max_concurrency * replicas == offer.concurrency
        assert plan.engine.max_num_seqs == offer.max_num_seqs
        assert plan.memory.available_kv_cache_bytes == offer.available_kv_cache_bytes
        assert plan.gpu.num_gpus == offer.num_gpus <= most
        if offer.surely:
            assert offer.sure_requests is not None and offer.spare_requests is not None
            assert offer.sure_requests >= wanted
            assert offer.spare_requests == offer.sure_requests - wanted
            assert offer.spare_bytes >= 0
            assert offer.concurrency >= wanted


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


def test_prices_come_first() -> None:
    prices = {"L4": 0.8, "H100": 3.0, "A100": 1.4}
    result = fit(
        "meta-llama/Llama-3.1-8B-Instruct", context=32768, concurrency=12, prices=prices, top=100
    )
    assert set(result.gpus) == {"L4-24GB", "H100-SXM-80GB", "A100-SXM-80GB"}
    costs = [offer.price for offer in result.offers]
    assert None not in costs and costs == sorted(costs, key=float)
    assert result.best is not None
    assert (result.best.gpu, result.best.price) == ("A100-SXM-80GB", 1.4)
    with pytest.raises(InputError, match="--price: none for H200-141GB"):
        fit("gpt2", gpu="H200", prices=prices)


def test_variants_are_tried_after_the_model_itself() -> None:
    result = fit(
        "meta-llama/Llama-3.1-70B-Instruct",
        gpu="H100",
        context=8192,
        variants=["hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4"],
        max_gpus=2,
    )
    assert result.models[0] == "meta-llama/Llama-3.1-70B-Instruct"
    first = result.offers[0]
    assert (first.model, first.num_gpus) == (result.models[1], 1)
    two = [offer.model for offer in result.offers if offer.num_gpus == 2]
    assert two[0] == result.models[0]


def test_several_machines() -> None:
    """Llama 3.1 405B in bfloat16: 756 GiB of weights; sixteen H100 on two machines."""
    asked: dict[str, Any] = {"gpu": "H100", "context": 8192, "top": 1000}
    model = "meta-llama/Llama-3.1-405B-Instruct"
    assert fit(model, **asked).offers == ()
    result = fit(model, max_nodes=2, **asked)
    assert result.max_gpus == 16 and result.offers
    for offer in result.offers:
        assert offer.num_nodes == 2 and offer.num_gpus % 2 == 0
        assert offer.tensor_parallel_size <= 8
        assert len(offer.node_commands) == 2
        assert offer.command == offer.node_commands[0]
    first, second = result.offers[0].node_commands
    assert "--nnodes 2" in first and "--node-rank 0" in first and "--headless" not in first
    assert "--node-rank 1 --headless" in second
    (ray,) = fit(model, max_nodes=2, launcher="ray", **asked).offers[0].node_commands
    assert ray.endswith("--distributed-executor-backend ray")
    torn = fit(model, max_nodes=2, tensor_parallel_size=16, **asked)
    assert {offer.tensor_parallel_size for offer in torn.offers} == {16}


def test_borderline_only_when_asked_for() -> None:
    """Some context between the sure and the likely longest one."""
    batch = {"max_num_seqs": 256, "max_num_batched_tokens": 2048}
    asked: dict[str, Any] = {"gpu": "L4", "max_gpus": 1, **batch}
    model = "meta-llama/Llama-3.1-8B-Instruct"
    request = plan_request(model, gpu="L4", **batch)
    likely = request.plan().kv_cache.max_model_len_that_fits
    context = next(
        length
        for length in range(likely, 0, -256)
        if not request.with_args(max_model_len=length).plan().fits
    )
    (offer,) = fit(model, context=context, borderline=True, **asked).offers
    assert not offer.surely
    (missed,) = fit(model, context=context, **asked).misses
    assert missed.reason == "borderline"


@pytest.mark.parametrize("model", MODELS)
def test_flags_given_stay(model: str) -> None:
    result = fit(
        model,
        gpu="H200",
        max_model_len=1024,
        max_num_seqs=33,
        enforce_eager=True,
        tensor_parallel_size=4 if model != "gpt2" else 1,
    )
    for offer in result.offers:
        assert offer.max_num_seqs == 33 and offer.max_model_len == 1024
        assert "--enforce-eager" in offer.command and "--max-num-seqs 33" in offer.command


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"gpu": "H1000"}, "unknown GPU"),
        ({"gpu": []}, "is no GPU's name"),
        ({"gpu": 3}, "is no GPU's name"),
        ({"gpu": [3]}, "neither the name of a GPU"),
        ({"max_gpus": 0}, "--max-gpus: 0 is not a whole number from 1"),
        ({"max_gpus": True}, "--max-gpus: True"),
        ({"max_nodes": 2.5}, "--max-nodes: 2.5"),
        ({"gpus_per_node": 10**9}, "--gpus-per-node"),
        ({"concurrency": -1}, "--concurrency: -1"),
        ({"concurrency": 10**9}, "--concurrency"),
        ({"top": 0}, "--top: 0"),
        ({"context": 0}, "max_model_len must be a positive integer"),
        ({"context": 10**7}, "greater than the derived max_model_len"),
        ({"context": 8, "max_model_len": 9}, "the same thing"),
        ({"kv_cache_dtype": "fp9"}, "fp9"),
        ({"kv_cache_dtype": []}, "none given"),
        ({"kv_cache_dtype": 3}, "is not a text"),
        ({"prices": {"H100": float("nan")}}, "is not a number above 0"),
        ({"prices": {"H1000": 2}}, "unknown GPU"),
        ({"prices": [2]}, "is not a dictionary"),
        ({"launcher": "slurm"}, "one of mp, ray"),
        ({"variants": ["no/such-model-anywhere"]}, "no/such-model-anywhere"),
        ({"tensor_parallel_size": 5, "gpu": "H100"}, "divisible"),
        ({"max_num_seq": 5}, "did you mean"),
        ({"tensor_parallel_size": 16}, "agrees with --tensor-parallel-size 16: tried 1, 2, 3"),
        ({"gpu_counts": [16]}, "tried none of --max-gpus 8"),
        ({"gpu_counts": "8"}, "is not a list of whole numbers"),
    ],
)
def test_nonsense_is_one_line(
    asked: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PlannerError) as caught:
        fit("gpt2", **asked)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
