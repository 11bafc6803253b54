"""``run_workload``: what it refuses, what it says, and that a long run is one that jumps."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kv_planner.capacity.workload import run_workload, simulate
from vllm_kv_planner.config.find import FoundConfig
from vllm_kv_planner.errors import InputError, PlannerError, UnsupportedError
from vllm_kv_planner.planning.request import PlanRequest, plan_request
from vllm_kv_planner.workload.feed import Feed
from vllm_kv_planner.workload.from_plan import planned_settings
from vllm_kv_planner.workload.queues import CHUNK, Arrived, Backlog
from vllm_kv_planner.workload.types import SchedulerFlags, TraceRequest

from .shared import config_files, needs_shared
from .workload_engines import engine, full

QWEN = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "torch_dtype": "bfloat16",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "vocab_size": 1000,
}


def small(**args: Any) -> PlanRequest:
    """A small model with 100 blocks of 16 tokens, the null block not counted."""
    found = FoundConfig(id="small", source="local", config=QWEN)
    return plan_request(found, gpu="A10G", **{"num_gpu_blocks_override": 101, **args})


def test_a_run_says_what_it_was_like() -> None:
    """Two requests of 160 and 320 tokens at once, a third one too long, one cut."""
    trace = [TraceRequest(0, 160, 16), TraceRequest(0, 320, 16), TraceRequest(0, 1024, 1)]
    trace.append(TraceRequest(40, 1020, 16))
    result = run_workload(small(async_scheduling=False), trace, step_time=2.0)
    assert (result.requests, result.refused, result.cut) == (4, 1, 1)
    # 16 steps for the two; the last one waits until second 40, that is step 20, and has 4 outputs.
    assert (result.steps, result.seconds) == (20, 40.0)
    assert result.usable_blocks == 100
    assert result.running.most == 2
    assert result.running.mean == (16 * 2 + 4) / 20
    assert result.computed_tokens == 160 + 320 + 2 * 15 + 1020 + 3
    assert result.output_tokens == 2 * 16 + 4
    assert (result.waited, result.preemptions, result.limits) == (0, 0, {})
    assert result.limit.startswith("nothing: at most 2 requests")
    assert result.used_blocks.most == 64
    assert result.prefix_hit_rate == 0


def test_keys_of_a_result_are_stable() -> None:
    """Programs read them."""
    plain = run_workload(small(), [TraceRequest(0, 10, 2)]).to_dict()
    assert list(plain) == [
        *("schema_version", "plan", "scheduler", "requests", "refused", "cut", "steps"),
        *("step_time", "concurrency", "usable_blocks", "running", "sustained", "running_loaded"),
        *("waiting", "used_blocks", "step_tokens", "waited", "waited_for", "wait_steps"),
        *("preemptions", "preempted_requests", "prompt_tokens", "output_tokens"),
        *("computed_tokens", "recomputed_tokens", "cached_tokens", "queried_tokens", "limits"),
        *("limit", "series", "notes", "prefix_hit_rate", "seconds"),
    ]
    assert list(plain["series"]) == ["step", "used_blocks", "running", "waiting", "preemptions"]


def test_the_limit_is_named() -> None:
    """Seats where there are few, blocks where requests are long."""
    trace = [TraceRequest(0, 100, 50)] * 40
    slots = run_workload(small(max_num_seqs=4), trace)
    assert slots.limit.startswith("max_num_seqs 4: ")
    assert slots.sustained.p50 == 4
    blocks = run_workload(small(), trace)
    assert blocks.limit.startswith("KV cache: ")
    assert max(blocks.limits, key=lambda name: blocks.limits[name]) == "kv_blocks"
    assert blocks.used_blocks.most == 100
    watermark = run_workload(small(), trace, scheduler_flags={"watermark": 0.2})
    assert watermark.preemptions < blocks.preemptions


def test_requests_that_ended_are_told() -> None:
    """Refused ones among them."""
    told: list[int] = []
    trace = [TraceRequest(0, 10, 5), TraceRequest(0, 10, 9), TraceRequest(0, 5000, 1)]
    run_workload(small(), trace, progress=told.append)
    assert told[-1] == 3
    assert told == sorted(set(told))


def test_other_schedulers_have_figures_too() -> None:
    """Priority and pipeline stages take the plain engine."""
    trace = [TraceRequest(each, 100, 50) for each in range(40)]
    for changes in ({"scheduling_policy": "priority"}, {"prefill_schedule_interval": 4}):
        result = run_workload(small(), trace, scheduler_flags=changes)
        assert result.output_tokens == 40 * 50
        assert result.sustained.p50 > 5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"concurrency": 0}, "concurrency 0: a whole number of clients, 1 to 1,000,000"),
        ({"concurrency": True}, "concurrency True"),
        ({"step_time": float("nan")}, "step_time nan: seconds of one step"),
        ({"step_time": -1}, "step_time -1"),
        ({"scheduler": "mine"}, "scheduler 'mine': standalone or vllm"),
        ({"scheduler_flags": {"stream_interval": 2}}, "scheduler flag stream_interval: one of"),
        ({"scheduler_flags": {"watermark": 1.0}}, "--watermark 1.0: a number from 0 to less"),
        ({"scheduler_flags": {"watermark": True}}, "--watermark True"),
        ({"scheduler_flags": {"scheduling_policy": "sjf"}}, "'sjf': fcfs or priority"),
        ({"scheduler_flags": {"prefill_schedule_interval": 0}}, "a whole number, at least 1"),
        ({"scheduler_flags": {"scheduler_reserve_full_isl": 1}}, "true or false"),
    ],
)
def test_wrong_arguments_are_refused(given: dict[str, Any], message: str) -> None:
    """One line each."""
    with pytest.raises(PlannerError, match=message):
        run_workload(small(), [], **given)


def test_an_engine_that_does_not_start_is_refused() -> None:
    """Nothing runs on it."""
    with pytest.raises(InputError, match="this engine does not start: one request of max_model"):
        run_workload(small(num_gpu_blocks_override=10), [])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"speculative_config": {"method": "ngram", "num_speculative_tokens": 2}}, "speculative"),
        ({"runner": "pooling"}, "pooling models"),
        (
            {"kv_transfer_config": {"kv_connector": "NixlConnector", "kv_role": "kv_both"}},
            "KV conn",
        ),
        ({"prefix_match_unit": 16}, "--prefix-match-unit"),
    ],
)
def test_what_is_not_simulated_is_refused(args: dict[str, Any], message: str) -> None:
    """By name."""
    with pytest.raises(UnsupportedError, match=f"workload: {message}"):
        planned_settings(small(**args))


def test_encoder_decoder_models_are_refused() -> None:
    """Their encoder's input is in no trace."""
    needs_shared()
    with pytest.raises(UnsupportedError, match="workload: encoder-decoder models"):
        planned_settings(plan_request(config_files()["openai/whisper-large-v3-turbo"], gpu="H100"))


def test_other_versions_are_refused() -> None:
    """The rules are one version's."""
    asked = plan_request(small().found, gpu="A10G", vllm_version="0.30.0")
    with pytest.raises(UnsupportedError, match=r"the rules are those of 0\.33\.0"):
        planned_settings(asked)


def test_settings_follow_the_flags() -> None:
    """vLLM's names, resolved."""
    args = {"max_num_seqs": 8, "max_num_active_seqs": 6, "max_num_batched_tokens": 64}
    flags = SchedulerFlags(watermark=0.055)
    settings, plan = planned_settings(small(**args, max_num_scheduled_tokens=32), flags)
    assert (settings.max_num_seqs, settings.token_budget, settings.watermark_blocks) == (6, 32, 5)
    assert (settings.max_num_batched_tokens, settings.max_model_len) == (64, 1024)
    assert (settings.async_scheduling, settings.max_concurrent_batches) == (True, 2)
    assert (settings.num_gpu_blocks, plan.kv_cache.num_gpu_blocks) == (101, 101)
    assert (settings.scheduler_block_size, settings.hash_block_size) == (16, 16)


def test_a_backlog_keeps_the_order() -> None:
    """Over several of its chunks, with requests leaving in between."""
    backlog, left = Backlog(), []
    for number in range(3 * CHUNK):
        backlog.add(Arrived(number, number / 2, number // 2, number + 1, 3, ()))
        if number % 3 == 0:
            left.append(backlog.pop())
    while backlog:
        left.append(backlog.pop())
    assert [each.number for each in left] == list(range(3 * CHUNK))
    assert left[-1] == Arrived(3 * CHUNK - 1, (3 * CHUNK - 1) / 2, 6143, 3 * CHUNK, 3, ())


def test_a_waiting_request_is_not_built_before_its_turn() -> None:
    """30,000 requests that wait from the start are kept as numbers, 100 bytes each."""
    import tracemalloc

    settings = engine([full()], 16)
    tracemalloc.start()
    feed = Feed((TraceRequest(0, 4, 1) for _ in range(30_000)), settings)
    simulate(settings, feed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert feed.ended == 30_000
    assert peak < 3 << 20
