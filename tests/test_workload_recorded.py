"""Our scheduler does what vLLM 0.33's did: every step of the small workloads recorded from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workload_cases import Case, case_request
from tests.workload_small_cases import CONFIGS, SMALL_CASES
from tests.workload_truth import check_same, read_truth
from vllm_kv_planner.workload.from_plan import planned_settings
from vllm_kv_planner.workload.types import SchedulerFlags

from .workload_engines import EngineRun

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("case", SMALL_CASES, ids=lambda case: case.name)
def test_every_step_is_vllms(case: Case, tmp_path: Path) -> None:
    truth = read_truth(DATA / f"workload_{case.name}.jsonl")
    settings, _ = planned_settings(
        case_request(case, CONFIGS[case.model], tmp_path), SchedulerFlags.of(case.flags)
    )
    told = truth.head["settings"]
    assert settings.num_gpu_blocks == told["num_gpu_blocks"]
    assert settings.max_concurrent_batches == told["max_concurrent_batches"]
    assert settings.enable_prefix_caching == told["enable_prefix_caching"]
    assert (settings.scheduler_block_size, settings.hash_block_size) == (
        told["scheduler_block_size"],
        told["hash_block_size"],
    )
    run = EngineRun(
        settings, truth.requests, concurrency=case.concurrency, step_time=case.step_time
    )
    assert check_same(run.steps(), truth.steps) == len(truth.steps) > 50


@pytest.mark.parametrize("case", SMALL_CASES, ids=lambda case: case.name)
def test_the_truth_is_of_this_case(case: Case) -> None:
    truth = read_truth(DATA / f"workload_{case.name}.jsonl")
    assert truth.head["vllm_version"].startswith("0.33.")
    assert truth.head["args"] == case.args
    assert truth.head["flags"] == case.flags
    assert truth.requests == case.trace()


def test_the_truth_holds_what_is_hard() -> None:
    """Preemptions, hits, refused prompts, waiting: nothing is compared that never happens."""
    by_name = {case.name: read_truth(DATA / f"workload_{case.name}.jsonl") for case in SMALL_CASES}
    preempting = ("preempting", "preempting_sync", "priority", "closed_loop", "mamba", "mla")
    for name in preempting:
        assert any(step.preempted for step in by_name[name].steps), name
    for name in ("prefix", "sliding", "chunked", "mla", "mamba", "closed_loop"):
        assert any(any(step.cached_tokens) for step in by_name[name].steps), name
    for name in (*preempting, "prefix", "long_context", "mamba_uncached"):
        assert any(step.waiting for step in by_name[name].steps), name
    refused = by_name["closed_loop"]
    limit = refused.head["settings"]["max_model_len"]
    assert any(each.prompt_tokens >= limit for each in refused.requests)
    kinds = {
        group["kind"] for truth in by_name.values() for group in truth.head["settings"]["groups"]
    }
    assert kinds == {
        "full_attention",
        "sliding_window",
        "chunked_local_attention",
        "mla_attention",
        "mamba",
    }
