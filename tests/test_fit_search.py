"""``fit`` against brute force: nothing better is missed, and every offer fits."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kv_planner.capacity.fit.fit import fit
from vllm_kv_planner.capacity.fit.measure import Measure, Measured
from vllm_kv_planner.capacity.fit.offer import Offer
from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.gpu.catalogue import find_gpu
from vllm_kv_planner.planning.request import PlanRequest, plan_request

MEASURE = Measure()


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


@settings(max_examples=25, deadline=None)
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
