"""Flags that sound like memory and leave the plan as it is; vLLM's code says why."""

from __future__ import annotations

import pytest

from tests.memory_engines import V1, peak_of, rank_of, setup_of
from vllm_kv_planner.engine_args.flags import FlagParser, add_engine_flags, unsure_notes
from vllm_kv_planner.memory.cuda_graphs import graph_estimate
from vllm_kv_planner.memory.overheads import known_overheads

from .weight_cases import LLAMA_8B, estimate

QWEN_MOE = "Qwen/Qwen3-30B-A3B"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_dummy_weights_take_as_much_room() -> None:
    for flags in ({}, {"quantization": "fp8"}):
        plain, dummy = (estimate(LLAMA_8B, **flags, load_format=how) for how in ("auto", "dummy"))
        assert plain.stages == dummy.stages


def test_two_micro_batches_share_the_profiled_tokens() -> None:
    """Each half has a workspace of its own, half as large (``v1/worker/workspace.py``)."""
    flags = {"data_parallel_size": 2, "enable_expert_parallel": True}
    one = setup_of(QWEN_MOE, environment=V1, **flags)
    two = setup_of(QWEN_MOE, **flags, enable_dbo=True, all2all_backend="deepep_high_throughput")
    assert not rank_of(two, "0.33.0").uses_v2
    assert peak_of(two, "0.33.0").peak_bytes == peak_of(one, "0.33.0").peak_bytes
    graphs = [graph_estimate(rank_of(s, "0.33.0"), known_overheads().graphs) for s in (one, two)]
    assert graphs[0].num_graphs == graphs[1].num_graphs


def test_sleep_mode_is_named_as_not_modelled() -> None:
    parser = FlagParser(prog="x")
    add_engine_flags(parser)
    notes = unsure_notes(parser.parse_args(["--enable-sleep-mode"]))
    assert len(notes) == 1 and notes[0].startswith("--enable-sleep-mode is not modelled")
