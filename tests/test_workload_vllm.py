"""Our scheduler does what vLLM 0.33's own does: every step of every workload is the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.shared import needs_shared
from tests.test_workload_recorded import DATA
from tests.vllm_python import CUDA, interpreter
from tests.workload_cases import CASES, Case, case_request
from tests.workload_small_cases import CONFIGS, SMALL_CASES
from tests.workload_truth import check_same, read_truth
from vllm_kv_planner import InputError, UnsupportedError, VLLMPlanner
from vllm_kv_planner.capacity.workload import run_workload
from vllm_kv_planner.planning.request import PlanRequest
from vllm_kv_planner.vllm_adapter import workload
from vllm_kv_planner.vllm_adapter.workload import VLLMRun
from vllm_kv_planner.workload.from_plan import planned_settings
from vllm_kv_planner.workload.types import SchedulerFlags, Segment, TraceRequest

from .workload_engines import EngineRun

PYTHON = interpreter(CUDA)
PLAIN = SMALL_CASES[0]


@pytest.fixture(scope="module")
def planner() -> Iterator[VLLMPlanner]:
    with VLLMPlanner(python=PYTHON) as planner:
        yield planner


def compare(case: Case, request: PlanRequest, planner: VLLMPlanner) -> int:
    """Run both side by side; how many steps there were."""
    requests = case.trace()
    rules, _ = planned_settings(request, SchedulerFlags.of(case.flags))
    ours = EngineRun(rules, requests, concurrency=case.concurrency, step_time=case.step_time)
    with VLLMRun(
        request,
        requests,
        concurrency=case.concurrency,
        step_time=case.step_time,
        scheduler_flags=case.flags,
        planner=planner,
    ) as run:
        assert rules.num_gpu_blocks == run.settings["num_gpu_blocks"]
        return check_same(ours.steps(), run.steps())


SYNC = [
    case._replace(name=f"{case.name}_sync", args={**case.args, "async_scheduling": False})
    for case in CASES[::3]
]


@pytest.mark.parametrize("case", (*CASES, *SYNC), ids=lambda case: case.name)
def test_every_step_is_vllms(case: Case, planner: VLLMPlanner, tmp_path: Path) -> None:
    needs_shared()
    assert compare(case, case_request(case, None, tmp_path), planner) > 100


@pytest.mark.parametrize("case", SMALL_CASES, ids=lambda case: case.name)
def test_the_recorded_truth_is_what_vllm_does_now(
    case: Case, planner: VLLMPlanner, tmp_path: Path
) -> None:
    truth = read_truth(DATA / f"workload_{case.name}.jsonl")
    with VLLMRun(
        case_request(case, CONFIGS[case.model], tmp_path),
        truth.requests,
        concurrency=case.concurrency,
        step_time=case.step_time,
        scheduler_flags=case.flags,
        planner=planner,
    ) as run:
        assert list(run.steps()) == truth.steps
        assert run.settings == truth.head["settings"]


LENGTHS = st.one_of(st.integers(1, 40), st.sampled_from((15, 16, 17, 31, 32, 33, 64, 128, 129)))
SEGMENTS = st.lists(st.builds(Segment, st.sampled_from(("a", "b", 1)), LENGTHS), max_size=3)


@st.composite
def traces(draw: st.DrawFn) -> list[TraceRequest]:
    now, requests = 0.0, []
    for _ in range(draw(st.integers(1, 24))):
        prefix = tuple(draw(SEGMENTS))
        own = draw(st.one_of(st.just(0), LENGTHS, st.integers(1, 450)))
        tokens = max(1, own + sum(each.tokens for each in prefix))
        requests.append(TraceRequest(now, tokens, draw(LENGTHS), prefix))
        now += draw(st.sampled_from((0.0, 0.0, 0.5, 1.0, 7.3, 100.0)))
    return requests


@st.composite
def cases(draw: st.DrawFn) -> Case:
    model, fewest = draw(
        st.sampled_from(
            (
                ("tiny-qwen2", 33),
                ("tiny-gemma3", 240),
                ("tiny-llama4", 180),
                ("tiny-qwen3-next", 16),
                ("tiny-deepseek-v2", 33),
            )
        )
    )
    args: dict[str, Any] = {
        "max_model_len": 512,
        "num_gpu_blocks_override": fewest + draw(st.integers(0, fewest)),
        "max_num_seqs": draw(st.sampled_from((1, 3, 16))),
        "max_num_batched_tokens": draw(st.sampled_from((32, 100, 256, 600))),
        "enable_prefix_caching": draw(st.booleans()),
        "async_scheduling": draw(st.booleans()),
        "long_prefill_token_threshold": draw(st.sampled_from((0, 0, 20))),
    }
    flags: dict[str, Any] = {
        "scheduling_policy": draw(st.sampled_from(("fcfs", "priority"))),
        "watermark": draw(st.sampled_from((0.0, 0.0, 0.1))),
        "scheduler_reserve_full_isl": draw(st.booleans()),
    }
    trace = draw(traces())
    return Case("random", model, args, lambda: trace, flags, draw(st.sampled_from((None, None, 4))))


@given(case=cases())
@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_random_workloads(case: Case, planner: VLLMPlanner, tmp_path: Path) -> None:
    compare(case, case_request(case, CONFIGS[case.model], tmp_path), planner)


def test_the_same_figures(
    planner: VLLMPlanner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``run_workload`` says the same of both, and hears of every request that ends."""
    monkeypatch.setattr(workload, "installed_planner", lambda: planner)
    case = SMALL_CASES[2]
    request = case_request(case, CONFIGS[case.model], tmp_path)
    told: dict[str, list[int]] = {"standalone": [], "vllm": []}
    ours, vllms = (
        run_workload(
            request, case.trace(), progress=told[scheduler].append, scheduler=scheduler
        ).to_dict()
        for scheduler in told
    )
    assert told["vllm"][-1] == told["standalone"][-1] == len(case.trace())
    for about in ("plan", "scheduler", "notes"):
        del ours[about], vllms[about]
    assert ours == vllms


def test_a_run_that_is_left_frees_the_process(planner: VLLMPlanner, tmp_path: Path) -> None:
    request = case_request(PLAIN, CONFIGS[PLAIN.model], tmp_path)
    endless = (TraceRequest(10.0 * number, 30, 30) for number in itertools.count())
    run = VLLMRun(request, endless, planner=planner)
    with pytest.raises(InputError, match="runs a workload"):
        VLLMRun(request, [], planner=planner)
    seen = list(itertools.islice(run.steps(), 2000))
    assert [step.step for step in seen] == list(range(2000))
    run.close()

    def broken() -> Iterator[TraceRequest]:
        yield TraceRequest(0.0, 30, 30)
        raise InputError("line 2: no numbers")

    with pytest.raises(InputError, match="line 2"):
        list(VLLMRun(request, broken(), planner=planner).steps())
    with VLLMRun(request, endless, planner=planner):
        pass  # nothing is ever read
    with VLLMRun(request, [], planner=planner) as run:
        assert list(run.steps()) == []


def test_what_cannot_be_driven_is_refused(planner: VLLMPlanner, tmp_path: Path) -> None:
    request = case_request(PLAIN, CONFIGS[PLAIN.model], tmp_path)
    drafts = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}
    with pytest.raises(InputError, match="drafts are accepted"):
        VLLMRun(request.with_args(speculative_config=drafts), [], planner=planner)
    with pytest.raises(InputError, match=r"does not start: .*max seq len"):
        VLLMRun(request.with_args(num_gpu_blocks_override=20), [], planner=planner)
    with pytest.raises(InputError, match="makes an object for each of 10,000,001 blocks"):
        VLLMRun(request.with_args(num_gpu_blocks_override=10_000_001), [], planner=planner)
    with pytest.raises(UnsupportedError, match=r"vLLM installed is 0\.33"):
        VLLMRun(
            PlanRequest(found=request.found, args=request.args, gpu="H100", vllm_version="0.11"),
            [],
            planner=planner,
        )


@pytest.mark.parametrize("overlap", (True, False), ids=("async", "sync"))
def test_who_waits_for_ever_is_refused(overlap: bool, planner: VLLMPlanner, tmp_path: Path) -> None:
    """The second prompt is over what a step may schedule, and must not be split."""
    request = case_request(PLAIN, CONFIGS[PLAIN.model], tmp_path).with_args(
        async_scheduling=overlap,
        enable_chunked_prefill=False,
        max_num_batched_tokens=1024,
        max_num_scheduled_tokens=100,
    )
    trace = [TraceRequest(0.0, prompt, 5) for prompt in (50, 200, 20)]
    with pytest.raises(InputError, match="request 1 waits first"):
        list(VLLMRun(request, trace, planner=planner).steps())
    rules, _ = planned_settings(request)
    with pytest.raises(InputError, match="request 1"):
        list(EngineRun(rules, trace).steps())
    with pytest.raises(InputError, match="request 1"):
        run_workload(request, trace)
