"""Lengths, arrivals and prefixes of a workload, made from text."""

from __future__ import annotations

import math
from itertools import islice, pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_kv_planner.errors import InputError
from vllm_kv_planner.workload.lengths import parse_lengths
from vllm_kv_planner.workload.requests import (
    SharedPrefix,
    generated_requests,
    parse_arrivals,
    with_arrivals,
    with_pace,
    with_shared_prefix,
)
from vllm_kv_planner.workload.types import Segment, TraceRequest

DRAWS = 20_000


def draws(text: str, seed: int = 1, count: int = DRAWS) -> list[int]:
    lengths, random = parse_lengths(text), Random(seed)
    return [lengths(random) for _ in range(count)]


@pytest.mark.parametrize(
    ("text", "length"),
    [("1000", 1000), ("8k", 8000), ("8K", 8192), ("64-64", 64), ("choice:7", 7), ("1", 1)],
)
def test_one_length(text: str, length: int) -> None:
    assert set(draws(text, count=50)) == {length}


@given(low=st.integers(1, 10**9), more=st.integers(0, 10**6), seed=st.integers(0, 10**6))
def test_a_range_is_never_left(low: int, more: int, seed: int) -> None:
    high = min(low + more, 10**9)
    assert all(low <= length <= high for length in draws(f"{low}-{high}", seed, 20))


def test_both_ends_of_a_range_are_drawn_alike() -> None:
    found = draws("3-5")
    # 20,000 draws of one in three: 6,667 give or take 67, four of which are allowed
    assert {each: abs(found.count(each) - DRAWS / 3) < 4 * 67 for each in (3, 4, 5)} == {
        3: True,
        4: True,
        5: True,
    }


@given(
    kind=st.sampled_from(["normal", "lognormal", "exponential"]),
    mean=st.integers(1, 10**6),
    least=st.integers(1, 1000),
    more=st.integers(0, 10**6),
    seed=st.integers(0, 10**6),
)
def test_curves_stay_within_their_bounds(
    kind: str, mean: int, least: int, more: int, seed: int
) -> None:
    spread = {"normal": f"std={mean}", "lognormal": "sigma=1.5", "exponential": ""}[kind]
    text = f"{kind}:mean={mean},{spread},min={least},max={least + more}".replace(",,", ",")
    assert all(least <= length <= least + more for length in draws(text, seed, 20))


@pytest.mark.parametrize(
    ("text", "mean", "deviation"),
    [
        ("500-1500", 1000, 1001 / math.sqrt(12)),
        ("normal:mean=1000,std=100", 1000, 100),
        ("lognormal:mean=1000,sigma=0.8", 1000, 1000 * math.sqrt(math.expm1(0.64))),
        ("lognormal:mean=1000,std=300", 1000, 300),
        # the mean of a lognormal is its median times exp(sigma^2 / 2)
        ("lognormal:median=1000,sigma=0.5", 1000 * math.exp(0.125), 605),
        ("exponential:mean=1000", 1000, 1000),
        # 0.7 x 512 + 0.3 x 4096
        ("choice:512@0.7,4096@0.3", 1587.2, 3584 * math.sqrt(0.21)),
        ("choice:100@3,200@1", 125, 100 * math.sqrt(0.1875)),
        ("choice:100,200", 150, 50),
    ],
)
def test_means_are_what_the_text_says(text: str, mean: float, deviation: float) -> None:
    found = draws(text)
    # five standard errors: one honest seed in two million is further off
    assert abs(sum(found) / DRAWS - mean) < 5 * deviation / math.sqrt(DRAWS)


def test_half_of_a_lognormal_lies_below_its_median() -> None:
    found = sorted(draws("lognormal:median=1000,sigma=0.8"))
    assert 970 < found[DRAWS // 2] < 1030


def test_a_cut_curve_piles_up_at_its_maximum() -> None:
    found = draws("exponential:mean=1000,max=1000")
    # P(x > 999.5) is about 1/e
    assert abs(found.count(1000) / DRAWS - math.exp(-1)) < 0.02


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a whole number"),
        ("0", "1 to 1,000,000,000"),
        ("-5", "1 to 1,000,000,000"),
        ("1e3", "not a whole number"),
        ("5-3", "ends before it begins"),
        ("zipf:mean=3", "no such distribution"),
        ("normal:mean=3", "needs std="),
        ("normal:mean=3,std=nan", "std 'nan'"),
        ("normal:mean=3,std=-1", "std '-1'"),
        ("normal:mean=3,std=1,std=2", "twice"),
        ("lognormal:mean=3", "mean= or median="),
        ("lognormal:mean=3,median=3,sigma=1", "mean= or median="),
        ("lognormal:median=3,std=1", "goes with mean="),
        ("lognormal:mean=3,sigma=1e9", "sigma"),
        ("exponential:mean=3,min=9,max=8", "min is above max"),
        ("exponential:sigma=3", "'sigma' is none of"),
        ("choice:", "not a whole number"),
        ("choice:5@0", "every weight is 0"),
        ("choice:5@inf", "weight 'inf'"),
        ("9" * 5000, "valid: 1000"),
        ("choice:" + "5," * 20_000, "more than 10,000"),
        ("\x1b[31m", "valid: 1000"),
    ],
)
def test_bad_lengths_say_what_is_valid(text: str, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse_lengths(text, "--prompt-tokens")
    message = str(refusal.value)
    assert message.startswith("--prompt-tokens")
    assert said in message
    assert "lognormal:mean=1000,sigma=0.8" in message
    assert message.isprintable()


@given(text=st.text(max_size=60))
def test_any_text_is_a_distribution_or_one_line(text: str) -> None:
    try:
        lengths = parse_lengths(text)
    except InputError as refusal:
        assert str(refusal).isprintable()
    else:
        assert lengths(Random(0)) >= 1


def times(count: int, **given_: object) -> list[float]:
    arrivals = parse_arrivals(given_.pop("arrivals", None), **given_)  # type: ignore[arg-type]
    return list(islice(arrivals.times(Random(3)), count))


def test_all_at_once_where_nothing_is_said() -> None:
    assert times(5) == [0.0] * 5


def test_constant_arrivals_do_not_drift() -> None:
    found = times(300_001, arrivals="constant", rate=0.3)
    assert found[1] == 1 / 0.3
    assert found[-1] == 1_000_000


def test_bursts_keep_the_rate() -> None:
    assert times(7, arrivals="burst:3", rate=2.0) == [0, 0, 0, 1.5, 1.5, 1.5, 3.0]


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({}, "all at once"),
        ({"rate": 0.5}, "Poisson, 0.5 a step"),
        ({"rate": 2.0, "burstiness": 3.0}, "gaps of a gamma distribution of shape 3, 2 a step"),
        ({"rate": 2.0, "arrivals": "constant"}, "evenly, 2 a step"),
        ({"rate": 2.0, "arrivals": "burst:50"}, "in bursts of 50, 2 a step"),
    ],
)
def test_arrivals_in_words(given_: dict[str, Any], said: str) -> None:
    assert parse_arrivals(given_.pop("arrivals", None), **given_).described("step") == said


@pytest.mark.parametrize(("burstiness", "variation"), [(None, 1.0), (4.0, 0.5), (0.25, 2.0)])
def test_gaps_have_the_mean_and_the_variation_of_their_shape(
    burstiness: float | None, variation: float
) -> None:
    found = times(DRAWS + 1, rate=5.0, burstiness=burstiness)
    gaps = [after - before for before, after in pairwise(found)]
    mean = sum(gaps) / DRAWS
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / DRAWS)
    assert found[0] == 0.0
    assert min(gaps) >= 0
    assert abs(mean - 0.2) < 5 * 0.2 * variation / math.sqrt(DRAWS)
    # a gamma distribution of shape k varies by 1 / sqrt(k) of its mean
    assert abs(deviation / mean - variation) < 0.1 * variation


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"arrivals": "poisson"}, "--rate"),
        ({"arrivals": "sometimes", "rate": 1.0}, "poisson, constant, burst:N"),
        ({"arrivals": "constant:3", "rate": 1.0}, "poisson, constant, burst:N"),
        ({"arrivals": "burst", "rate": 1.0}, "N is 1 to"),
        ({"arrivals": "burst:0", "rate": 1.0}, "N is 1 to"),
        ({"arrivals": "burst:²", "rate": 1.0}, "N is 1 to"),
        ({"arrivals": "all", "rate": 1.0}, "one of them"),
        ({"rate": 0.0}, "above 0"),
        ({"rate": math.nan}, "above 0"),
        ({"rate": math.inf}, "above 0"),
        ({"rate": 1.0, "burstiness": 0.0}, "0.001"),
        ({"burstiness": 1.0}, "--rate"),
    ],
)
def test_bad_arrivals(given_: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        times(1, **given_)


def generated(seed: int, count: int = 50, prompt: str = "1-1000") -> list[TraceRequest]:
    lengths = parse_lengths(prompt), parse_lengths("1-1000")
    return list(generated_requests(*lengths, count, seed=seed))


def test_the_seed_decides_everything() -> None:
    assert generated(1) == generated(1)
    assert generated(1) != generated(2)
    # answers stay where only the prompts' distribution changes
    assert [each.output_tokens for each in generated(1)] == [
        each.output_tokens for each in generated(1, prompt="choice:5,9")
    ]


def test_requests_are_made_when_they_are_asked_for() -> None:
    lengths = parse_lengths("10")
    stream = with_arrivals(
        generated_requests(lengths, lengths, 10**9), parse_arrivals("constant", 2.0)
    )
    first, second = islice(stream, 2)
    assert (first, second) == (TraceRequest(0.0, 10, 10), TraceRequest(0.5, 10, 10))


def test_a_shared_prefix_comes_on_top() -> None:
    requests = [TraceRequest(0.0, 10, 5, (Segment(7, 4),)), TraceRequest(1.0, 1, 1)]
    shared = SharedPrefix(tokens=100)
    assert list(with_shared_prefix(requests, shared)) == [
        TraceRequest(0.0, 110, 5, (Segment("shared-prefix-0", 100), Segment(7, 4))),
        TraceRequest(1.0, 101, 1, (Segment("shared-prefix-0", 100),)),
    ]


def test_every_one_of_several_prefixes_is_picked() -> None:
    stream = with_shared_prefix(
        [TraceRequest(0.0, 1, 1)] * 200, SharedPrefix(tokens=8, count=4), seed=5
    )
    assert {each.prefix[0].id for each in stream} == {f"shared-prefix-{n}" for n in range(4)}


@given(scale=st.floats(1e-6, 1e6), arrival=st.floats(0, 1e9))
def test_pace_divides_times(scale: float, arrival: float) -> None:
    (found,) = with_pace([TraceRequest(arrival, 1, 1)], scale)
    assert found.arrival == arrival / scale
