"""What holds for every engine and trace; and that the fast engine does what the plain one does."""

from __future__ import annotations

from typing import Any

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from vllm_kv_planner.capacity.workload import SeenTrace, simulate
from vllm_kv_planner.kv_cache.specs import KVCacheSpec
from vllm_kv_planner.workload.blocks import BlockPool
from vllm_kv_planner.workload.engine import Engine
from vllm_kv_planner.workload.fast import FastEngine, can_be_fast
from vllm_kv_planner.workload.feed import Feed
from vllm_kv_planner.workload.statistics import Statistics
from vllm_kv_planner.workload.types import EngineSettings, Segment, TraceRequest

from .workload_engines import Run, chunks, engine, full, ring, run, states, steps_of, window

MAX_MODEL_LEN = 48
SPECS: dict[str, list[KVCacheSpec]] = {
    "full": [full()],
    "window": [window(9)],
    "full and windows": [full(), window(9), window(9)],
    "two windows": [full(), window(9), window(17)],
    "two sizes": [full(4), window(12, 8)],
    "chunks": [full(), chunks(12)],
    "states": [full(), states(4)],
    "states alone": [states(8)],
    "exported states": [full(8), states(8, grid=4)],
    "states and a window": [full(), states(4), window(8)],
    "ring": [full(), ring()],
}


@st.composite
def engines(draw: st.DrawFn) -> EngineSettings:
    """An engine that can hold at least one request of the full length."""
    specs = SPECS[draw(st.sampled_from(sorted(SPECS)))]
    changes: dict[str, Any] = {
        "max_model_len": MAX_MODEL_LEN,
        "enable_prefix_caching": draw(st.booleans()),
        "async_scheduling": draw(st.booleans()),
        "max_num_seqs": draw(st.integers(1, 6)),
        "max_num_batched_tokens": draw(st.integers(8, 40)),
        "long_prefill_token_threshold": draw(st.sampled_from([0, 0, 3, 10])),
        "long_prefill_token_threshold_adaptive": draw(st.booleans()),
        "reserve_full_prompt": draw(st.booleans()),
        "watermark_blocks": draw(st.sampled_from([0, 0, 2])),
    }
    if not changes["enable_prefix_caching"]:
        specs = [states(MAX_MODEL_LEN) if each.kind == "mamba" else each for each in specs]
    needed = sum(-(-MAX_MODEL_LEN // each.block_size) + 1 for each in specs)
    return engine(specs, needed + draw(st.sampled_from([0, 0, 2, 5, 30])), **changes)


@st.composite
def traces(draw: st.DrawFn) -> list[TraceRequest]:
    """Up to 12 requests, some of which begin alike, some too long."""
    trace, now = [], 0.0
    for _ in range(draw(st.integers(1, 12))):
        now += draw(st.sampled_from([0, 0, 0, 0, 0, 1, 2.5, 30]))
        prefix = tuple(
            Segment(draw(st.integers(0, 1)), draw(st.sampled_from([4, 7, 16])))
            for _ in range(draw(st.integers(0, 2)))
        )
        prompt = sum(each.tokens for each in prefix) + draw(st.integers(1, 20))
        trace.append(TraceRequest(now, prompt, draw(st.integers(1, 30)), prefix))
    return trace


concurrencies = st.one_of(st.none(), st.integers(1, 5))


def plain_and_fast(
    settings: EngineSettings, trace: list[TraceRequest], concurrency: int | None
) -> tuple[Run, Run]:
    """The same run twice."""
    return (
        run(Engine(settings), Feed(trace, settings, concurrency=concurrency)),
        run(FastEngine(settings), Feed(trace, settings, concurrency=concurrency)),
    )


LATE_NAME = (
    engine(
        SPECS["two sizes"],
        20,
        max_model_len=MAX_MODEL_LEN,
        enable_prefix_caching=True,
        max_num_seqs=6,
        max_num_batched_tokens=13,
        reserve_full_prompt=False,
    ),
    [
        TraceRequest(0.0, 5, 10, (Segment(0, 4),)),
        TraceRequest(0.0, 12, 8),
        TraceRequest(0.0, 17, 5, (Segment(0, 16),)),
    ],
    4,
)
"""The first request's shared block gets its name while it decodes: names come every 8 tokens."""


@settings(max_examples=300, deadline=None)
@given(engines(), traces(), concurrencies)
@example(*LATE_NAME)
def test_the_fast_engine_does_what_the_plain_one_does(
    settings: EngineSettings, trace: list[TraceRequest], concurrency: int | None
) -> None:
    """In every step, those it leaves out included; and at the end the pools are alike."""
    assert can_be_fast(settings)
    plain, fast = plain_and_fast(settings, trace, concurrency)
    event(f"preempts: {any(each.preempted for each in plain.seen)}")
    event(f"skips: {fast.skipped > 0}")
    event(f"finds: {any(found for each in plain.seen for _, found in each.admitted)}")
    assert fast.seen == plain.seen
    assert fast.feed.clock == plain.feed.clock
    assert state_of(fast.engine.cache.pool) == state_of(plain.engine.cache.pool)


def test_a_late_name_is_what_vllm_does() -> None:
    """Blocks held in every step of vLLM 0.33's own ``Scheduler``, driven with these two groups."""
    for each in plain_and_fast(*LATE_NAME):
        assert [step.used_blocks for step in each.seen] == [
            6,
            11,
            17,
            17,
            19,
            18,
            13,
            18,
            14,
            13,
            8,
        ]


def state_of(pool: BlockPool) -> tuple[int, int]:
    """Free blocks, and those of them without a name."""
    return pool.free, pool.nameless


@settings(max_examples=150, deadline=None)
@given(engines(), traces(), concurrencies)
def test_every_request_gets_its_tokens_and_every_block_comes_back(
    settings: EngineSettings, trace: list[TraceRequest], concurrency: int | None
) -> None:
    """Whatever was preempted in between; no step is larger than it may be."""
    wanted = {
        number: min(each.prompt_tokens + each.output_tokens, MAX_MODEL_LEN) - 1
        for number, each in enumerate(trace)
        if each.prompt_tokens < MAX_MODEL_LEN
    }
    computed = dict.fromkeys(wanted, 0)
    finished: list[int] = []
    total = settings.num_gpu_blocks - 1
    for step in steps_of(settings, trace, concurrency):
        for number in step.preempted:
            if number not in finished:  # else its last output was on its way already
                computed[number] = 0
        for number, found in zip(step.admitted, step.cached_tokens, strict=True):
            computed[number] = found
        for number, tokens in step.scheduled.items():
            computed[number] += tokens
        finished += step.finished
        assert 0 < sum(step.scheduled.values()) <= settings.token_budget
        assert len(step.scheduled) <= step.running <= settings.max_num_seqs
        assert 0 < step.used_blocks <= total
        assert settings.enable_prefix_caching or not any(step.cached_tokens)
    assert computed == wanted
    assert sorted(finished) == sorted(wanted)
    ended = run(Engine(settings), Feed(trace, settings, concurrency=concurrency))
    assert ended.engine.cache.pool.free == total


@settings(max_examples=100, deadline=None)
@given(engines(), traces(), concurrencies)
def test_the_statistics_are_those_of_the_steps(
    settings: EngineSettings, trace: list[TraceRequest], concurrency: int | None
) -> None:
    """Counted from the records."""
    records = steps_of(settings, trace, concurrency)
    feed = Feed(trace, settings, concurrency=concurrency)
    statistics = simulate(settings, feed)
    result = result_of(statistics, feed)
    accepted = [each for each in trace if each.prompt_tokens < MAX_MODEL_LEN]
    assert result["requests"] == len(trace)
    assert result["refused"] == len(trace) - len(accepted)
    assert result["steps"] == len(records)
    assert result["prompt_tokens"] == sum(each.prompt_tokens for each in accepted)
    assert result["output_tokens"] == sum(
        min(each.output_tokens, MAX_MODEL_LEN - each.prompt_tokens) for each in accepted
    )
    assert result["computed_tokens"] == sum(sum(each.scheduled.values()) for each in records)
    needed = result["prompt_tokens"] + result["output_tokens"] - len(accepted)
    once = result["computed_tokens"] + result["cached_tokens"] - result["recomputed_tokens"]
    assert once <= needed
    assert once == needed or result["preemptions"]  # who comes back may find others' blocks
    if records:
        assert result["running"]["most"] == max(each.running for each in records)
        assert result["used_blocks"]["most"] == max(each.used_blocks for each in records)
        assert result["waiting"]["mean"] * len(records) == sum_of(records, "waiting")
    assert sum(result["limits"].values()) == sum(each.waiting > 0 for each in records)
    assert len(result["series"]) <= 200


@settings(max_examples=100, deadline=None)
@given(engines(), traces(), concurrencies)
def test_figures_made_from_records_are_the_same(
    settings: EngineSettings, trace: list[TraceRequest], concurrency: int | None
) -> None:
    """Those of vLLM's scheduler are made from records, which do not say why requests wait."""
    feed = Feed(trace, settings, concurrency=concurrency)
    expected = result_of(simulate(settings, feed), feed)
    seen = SeenTrace(trace, concurrency=concurrency, step_time=None)
    seen.max_model_len = MAX_MODEL_LEN
    assert list(seen.stream()) == trace
    statistics = Statistics(settings)
    for record in steps_of(settings, trace, concurrency):
        seen.add(record, statistics, settings)
    seen.end(statistics)
    result = result_of(statistics, seen)
    unsure = ["limits", "limit", "waited_for"]
    if expected["preemptions"]:  # some in a step that computed nothing, which has no record
        unsure += ["sustained", "series", "preemptions", "preempted_requests", "recomputed_tokens"]
    if settings.async_scheduling:  # in such a step an output may have come back
        unsure += ["sustained"]
        unsure += [] if concurrency is None else ["waited", "wait_steps"]
    assert {**result, **dict.fromkeys(unsure)} == {**expected, **dict.fromkeys(unsure)}
    assert sum(result["limits"].values()) == sum(expected["limits"].values())


def sum_of(records: list[Any], name: str) -> Any:
    """Of one figure, as exactly as a mean can be."""
    import pytest

    return pytest.approx(sum(getattr(each, name) for each in records))


def result_of(statistics: Statistics, feed: Feed | SeenTrace) -> dict[str, Any]:
    """The figures, without a plan."""
    from vllm_kv_planner.planning.types import as_plain

    result = statistics.result(
        None,  # type: ignore[arg-type]
        feed,
        scheduler="standalone",
        concurrency=None,
        step_time=None,
        notes=(),
    )
    plain = as_plain(result)
    assert isinstance(plain, dict)
    return plain
