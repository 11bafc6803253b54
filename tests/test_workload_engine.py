"""The workload engine on traces worked out by hand, from vLLM 0.33's rules; blocks of 4 tokens."""

from __future__ import annotations

import pytest

from vllm_kv_planner.capacity.workload import run_workload
from vllm_kv_planner.errors import InputError
from vllm_kv_planner.planning.request import plan_request
from vllm_kv_planner.workload.types import Segment, StepRecord, TraceRequest

from .shared import config_files, needs_shared
from .workload_engines import chunks, engine, full, ring, states, steps_of, window


def request(prompt: int, output: int, arrival: float = 0, shared: int = 0) -> TraceRequest:
    """A request; the first ``shared`` tokens of all of them are the same."""
    prefix = (Segment("all", shared),) if shared else ()
    return TraceRequest(arrival, prompt, output, prefix)


def short(step: StepRecord) -> tuple[object, ...]:
    """A step as the tests write it."""
    return (
        step.scheduled,
        step.admitted,
        step.preempted,
        step.finished,
        (step.running, step.waiting, step.used_blocks),
    )


def test_chunked_prefill_and_slots() -> None:
    """8 tokens a step, 2 slots: B's prompt is cut, C waits for tokens and then for a slot."""
    settings = engine([full()], 10, max_num_seqs=2, max_num_batched_tokens=8)
    steps = steps_of(settings, [request(6, 3), request(5, 2), request(4, 1)])
    assert [short(step) for step in steps] == [
        ({0: 6, 1: 2}, (0, 1), (), (), (2, 1, 3)),
        ({0: 1, 1: 3}, (), (), (), (2, 1, 4)),
        ({0: 1, 1: 1}, (), (), (0, 1), (2, 1, 4)),
        ({2: 4}, (2,), (), (2,), (1, 0, 1)),
    ]


def test_the_last_one_in_is_preempted_first() -> None:
    """5 blocks, one for each prompt: C goes first, then B, which comes back before C."""
    steps = steps_of(engine([full()], 5), [request(4, 8), request(4, 8), request(4, 2)])
    both = ({0: 1, 1: 1}, (), (), (), (2, 1, 4))
    alone = ({0: 1}, (), (), (), (1, 2, 3))
    assert [short(step) for step in steps] == [
        ({0: 4, 1: 4, 2: 4}, (0, 1, 2), (), (), (3, 0, 3)),
        ({0: 1, 1: 1}, (), (2,), (), (2, 1, 4)),  # C's fifth token needs a sixth block
        *[both] * 3,
        ({0: 1}, (), (1,), (), (1, 2, 3)),  # A's ninth token takes the last block
        alone,
        ({0: 1}, (), (), (0,), (1, 2, 3)),  # A's eighth output
        ({1: 9, 2: 5}, (1, 2), (), (2,), (2, 0, 5)),  # both again, with the outputs they had
        ({1: 1}, (), (), (), (1, 0, 3)),
        ({1: 1}, (), (), (1,), (1, 0, 3)),
    ]
    assert steps[8].cached_tokens == (0, 0)


def test_found_blocks_of_a_whole_prompt() -> None:
    """Of 8 equal tokens only one block is found: the last token is computed again, so its block."""
    settings = engine([full()], 10, enable_prefix_caching=True)
    trace = [request(8, 1, 0, 8), request(8, 1, 1, 8), request(9, 1, 2, 8)]
    steps = steps_of(settings, trace)
    assert [(step.scheduled, step.cached_tokens, step.used_blocks) for step in steps] == [
        ({0: 8}, (0,), 2),
        ({1: 4}, (4,), 2),
        ({2: 1}, (8,), 3),
    ]


def test_blocks_of_running_requests_are_shared() -> None:
    """A holds 3 blocks, B finds two of them in the same step and adds one."""
    settings = engine([full()], 10, enable_prefix_caching=True)
    (step, *_) = steps_of(settings, [request(9, 3, 0, 8), request(10, 3, 0, 8)])
    assert step.scheduled == {0: 9, 1: 2}
    assert (step.cached_tokens, step.used_blocks) == ((0, 8), 4)


def test_least_recently_used_blocks_are_taken_first() -> None:
    """5 blocks; A's two are found by C, so that D, which needs three, takes B's."""
    settings = engine([full()], 5, enable_prefix_caching=True)
    a, b = (Segment("a", 8),), (Segment("b", 8),)
    trace = [
        TraceRequest(0, 9, 1, a),
        TraceRequest(1, 9, 1, b),
        TraceRequest(2, 9, 1, a),  # holds A's blocks again: they are younger than B's now
        TraceRequest(3, 12, 1),
        TraceRequest(4, 9, 1, a),
        TraceRequest(5, 9, 1, b),
    ]
    found = [step.cached_tokens for step in steps_of(settings, trace)]
    assert found == [(0,), (0,), (8,), (0,), (8,), (0,)]


def test_a_preempted_request_finds_its_own_blocks() -> None:
    """B is preempted with one full block, which A has not needed when B comes back."""
    settings = engine([full()], 4, enable_prefix_caching=True)
    steps = steps_of(settings, [request(4, 6), request(4, 6)])
    again = [step for step in steps if 1 in step.admitted][1:]
    assert [step.preempted for step in steps if step.preempted] == [(1,)]
    # Thrown out with 8 tokens in two blocks, of which A takes the second one.
    assert [(step.step, step.scheduled, step.cached_tokens) for step in again] == [
        (6, {1: 5}, (4,))
    ]


def test_the_window_gives_blocks_back() -> None:
    """A window of 8: after 16 tokens the two blocks before the 9th are not looked at."""
    settings = engine([window(8)], 10, max_num_batched_tokens=8)
    steps = steps_of(settings, [request(16, 6)])
    assert [step.used_blocks for step in steps] == [2, 4, 3, 3, 3, 2, 3]


def test_a_chunk_gives_blocks_back() -> None:
    """Chunks of 8: once 16 tokens are computed, both chunks are over."""
    settings = engine([chunks(8)], 10, max_num_batched_tokens=8)
    steps = steps_of(settings, [request(16, 3)])
    assert [step.used_blocks for step in steps] == [2, 2, 1, 1]


def test_states_and_rings_take_one_block() -> None:
    """Without prefix caching, whatever the length."""
    settings = engine([states(64), ring()], 10)
    steps = steps_of(settings, [request(30, 5), request(3, 1)])
    assert [step.used_blocks for step in steps] == [4, 2, 2, 2, 2]


def test_kept_states_stop_the_prefill() -> None:
    """8 of the prompt's 11 tokens can be gone on from: the first step ends there, B starts there.

    Each of the two groups holds: 2 blocks of keys and one state; then 3 and two.
    """
    settings = engine([full(), states(4)], 20, enable_prefix_caching=True)
    steps = steps_of(settings, [request(11, 1, 0, 11), request(11, 1, 2, 11)])
    assert [(step.scheduled, step.cached_tokens, step.used_blocks) for step in steps] == [
        ({0: 8}, (0,), 3),
        ({0: 3}, (), 5),
        ({1: 3}, (8,), 5),
    ]


def test_asynchronous_steps_end_a_step_later() -> None:
    """A's last output is not back when step 2 is scheduled: it still has its slot and blocks."""
    settings = engine([full()], 10, async_scheduling=True)
    steps = steps_of(settings, [request(4, 2), request(4, 1, 2)])
    assert [short(step) for step in steps] == [
        ({0: 4}, (0,), (), (), (1, 0, 1)),
        ({0: 1}, (), (), (0,), (1, 0, 2)),
        ({1: 4}, (1,), (), (1,), (2, 0, 3)),
    ]


def test_a_closed_loop_keeps_its_clients_busy() -> None:
    """Two clients: the third request comes when the first has ended."""
    steps = steps_of(engine([full()], 10), [request(4, 2), request(4, 3), request(4, 1)], 2)
    assert [step.scheduled for step in steps] == [{0: 4, 1: 4}, {0: 1, 1: 1}, {1: 1, 2: 4}]


def test_an_idle_engine_jumps_to_the_next_arrival() -> None:
    """The steps in between are none."""
    steps = steps_of(engine([full()], 10), [request(4, 1), request(4, 1, 1000.5)])
    assert [step.step for step in steps] == [0, 1]


def test_too_long_prompts_are_refused_and_outputs_cut() -> None:
    """max_model_len 64: a prompt of 64 leaves no room, one of 62 has two outputs."""
    steps = steps_of(engine([full()], 20), [request(64, 1), request(62, 9)])
    assert [step.scheduled for step in steps] == [{1: 62}, {1: 1}]


def test_a_request_waits_for_its_whole_prompt() -> None:
    """B's 12 tokens need 3 blocks: it waits, though its first chunk would fit in the two left."""
    trace = [request(7, 2), request(12, 1)]
    small = {"max_num_batched_tokens": 8}
    steps = steps_of(engine([full()], 4, **small), trace)
    assert [step.scheduled for step in steps] == [{0: 7}, {0: 1}, {1: 8}, {1: 4}]
    steps = steps_of(engine([full()], 4, **small, reserve_full_prompt=False), trace)
    assert steps[0].scheduled == {0: 7, 1: 1}


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        ([request(0, 1)], "request 0: 0 prompt and 1 output tokens: whole numbers, at least 1"),
        ([request(4, 2.5)], r"request 0: 4 prompt and 2\.5 output tokens"),  # type: ignore[arg-type]
        ([request(4, 1, 1e300)], "request 0: arrival 1e"),
        ([request(4, 1, 0, -1)], "request 0: a part of its prefix has fewer than 0 tokens"),
        ([request(40, 1)], "request 0: its 40 tokens cannot be scheduled within 4 blocks"),
        ([request(4, 1, 5), request(4, 1, 4)], "request 1: arrival 4: a time not before"),
        ([request(4, 1, float("nan"))], "request 0: arrival nan"),
        ([request(4, 1, 0, 5)], "request 0: its prefix is longer than its prompt of 4 tokens"),
    ],
)
def test_wrong_requests_are_refused(trace: list[TraceRequest], message: str) -> None:
    """One line that says which request and why."""
    with pytest.raises(InputError, match=message):
        steps_of(engine([full()], 4), trace)


@pytest.mark.parametrize(("prompt", "output"), [(900, 100), (900, 200), (1000, 128)])
def test_a_published_case(prompt: int, output: int) -> None:
    """Qwen2.5-7B on an A10G: 77,088 KV tokens held 70 to 80 requests of about 1,000, not 256."""
    needs_shared()
    config = config_files()["Qwen/Qwen2.5-7B"]
    # A block of 16 tokens: 28 layers, keys and values, 4 heads of 128, 2 bytes.
    block = 16 * 28 * 2 * 4 * 128 * 2
    asked = plan_request(
        config, gpu="A10G", max_model_len=4096, kv_cache_memory_bytes=77_088 // 16 * block
    )
    result = run_workload(asked, [TraceRequest(0, prompt, output)] * 1500, concurrency=256)
    assert result.plan.kv_cache.kv_cache_size_tokens == 77_088
    assert result.plan.engine.max_num_seqs == 256
    assert 70 <= result.sustained.p50 <= 80
    assert result.running.most < 90
    assert result.limit.startswith("KV cache: ")
    assert result.preempted_requests > 0


def test_a_request_that_loses_its_blocks_for_ever_is_refused():
    """One Mamba state of three blocks: vLLM admits, preempts and admits the same request again."""
    from vllm_kv_planner import plan_request, run_workload

    request = plan_request(
        "tiiuae/falcon-mamba-7b",
        gpu="H100",
        max_model_len=4096,
        max_num_batched_tokens=1000,
        max_num_seqs=32,
        enforce_eager=True,  # else vLLM refuses three states for 32 sequences
        enable_prefix_caching=True,
        num_gpu_blocks_override=3,
        kv_cache_memory_bytes=1 << 30,
    )
    trace = [TraceRequest(0, 992, 50) for _ in range(40)]
    with pytest.raises(InputError, match="request 0: does not end within 2 blocks"):
        run_workload(request, trace, concurrency=20)


def test_blocks_are_made_when_first_used() -> None:
    """20 requests on an engine of ten million blocks make those that they hold at a time."""
    import tracemalloc

    trace = [request(100, 20, shared=50) for _ in range(20)]
    tracemalloc.start()
    steps = steps_of(
        engine([full()], 10_000_000, max_model_len=200, enable_prefix_caching=True), trace
    )
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(len(step.finished) for step in steps) == 20
    assert most < 1_000_000
