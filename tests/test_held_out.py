"""The band: rows of what stays unexplained, kinds of start, and the measurement behind it."""

from __future__ import annotations

from typing import Any

import pytest

import vllm_kv_planner
from benchmarks.ground_truth import Case
from benchmarks.held_out import quantile, source_of
from tests.memory_engines import GIB, MIB, rank_of, setup_of
from vllm_kv_planner.memory.budget import memory_budget
from vllm_kv_planner.memory.doubt import find_doubt
from vllm_kv_planner.memory.overheads import known_overheads
from vllm_kv_planner.planning.types import Plan


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def planned(version: str, model: str = "Qwen/Qwen3-8B", **flags: Any) -> Plan:
    return vllm_kv_planner.plan(
        model, gpu="RTX 4090", planner="standalone", vllm_version=version, **flags
    )


@pytest.mark.parametrize(
    ("model", "gpu", "flags", "size", "since_027"),
    [
        ("Qwen/Qwen3-8B", "RTX 4090", {}, 160 * MIB, 160 * MIB),
        ("Qwen/Qwen3-8B-FP8", "L4", {}, 290 * MIB, 290 * MIB),
        ("Qwen/Qwen3-30B-A3B", "RTX PRO 6000", {}, 250 * MIB, 720 * MIB),
        ("google/gemma-3-4b-it", "L4", {}, 250 * MIB, 720 * MIB),
        ("google/gemma-3-4b-it", "L4", {"language_model_only": True}, 160 * MIB, 160 * MIB),
        ("openai/gpt-oss-20b", "L40S", {}, 480 * MIB, 720 * MIB),
    ],
)
def test_what_stays_unexplained(
    model: str, gpu: str, flags: dict[str, Any], size: int, since_027: int
) -> None:
    for version, wanted in (("0.26.0", size), ("0.28.0", since_027), ("0.33.0", size)):
        rank = rank_of(setup_of(model, gpu, **flags), version)
        row = find_doubt(rank, known_overheads().unexplained)
        assert row is not None and row.bytes_on(rank) == wanted


def test_several_gpus_and_other_makers_by_the_card() -> None:
    for gpu, size, share in (("L4", 2, 0.0125), ("H200", 8, 0.0125), ("MI300X", 1, 0.015)):
        rank = rank_of(setup_of("Qwen/Qwen3-8B", gpu, tensor_parallel_size=size), "0.28.0")
        row = find_doubt(rank, known_overheads().unexplained)
        assert row is not None
        assert row.bytes_on(rank) == int(share * rank.setup.gpu.total_memory_bytes)
    experts = rank_of(setup_of("Qwen/Qwen3-30B-A3B", "H200", tensor_parallel_size=2), "0.28.0")
    row = find_doubt(experts, known_overheads().unexplained)
    assert row is not None and row.share == 0.029


def test_the_sweep_knows_its_own_card_and_versions() -> None:
    for version, size in (("0.19.0", 40), ("0.28.0", 160)):
        rank = rank_of(setup_of(), version)
        row = find_doubt(rank, known_overheads().unexplained)
        assert row is not None and row.bytes_on(rank) == size * MIB


def test_both_kinds_of_start_are_told() -> None:
    """Qwen3-8B on an RTX 4090 at 0.27.1: 1.0 GiB more where the compiled model is in the cache."""
    memory = planned("0.27").memory
    first, later = memory.starts
    assert first.available_kv_cache_bytes == memory.available_kv_cache_bytes
    more = later.available_kv_cache_bytes - first.available_kv_cache_bytes
    assert more == pytest.approx(1.0 * GIB, abs=0.1 * GIB)
    assert memory.uncertainty_bytes == first.uncertainty_bytes + more
    assert first.uncertainty_bytes == later.uncertainty_bytes < 0.3 * GIB
    told = planned("0.27").to_dict()["memory"]["starts"]
    assert [sorted(each) for each in told] == [
        ["available_kv_cache_bytes", "start", "uncertainty_bytes"]
    ] * 2
    assert "cache" in told[1]["start"]
    assert planned("0.33").memory.starts == planned("0.17").memory.starts == ()


def test_what_only_a_later_start_holds_is_borderline() -> None:
    """A running Qwen3-8B is not refused: its first start has too little, a later one enough."""
    memory = planned("0.27").memory
    first, later = memory.starts
    middle = (first.available_kv_cache_bytes + later.available_kv_cache_bytes) // 2
    length = middle // 147456 // 16 * 16  # bytes of a token: 36 layers, 8 KV heads of 128
    answer = planned("0.27", max_model_len=length)
    assert (answer.verdict, answer.fits) == ("borderline", False)
    assert "only if the prediction is too low" in answer.limits[0]
    assert planned("0.27", max_model_len=40960, gpu_memory_utilization=0.75).verdict != "borderline"


def test_no_row_is_wider_for_a_larger_spread_of_its_figure() -> None:
    """The residual takes the place of the spread; it is not added to it."""
    budget = memory_budget(setup_of("Qwen/Qwen3-8B", "RTX 4090"), 15 * GIB, vllm_version="0.17.0")
    assert budget.ranks[0].outside.uncertainty_bytes == 160 * MIB


def test_sources_weigh_the_same() -> None:
    many = {"a": [0.0] * 30, "b": [1.0], "c": [2.0]}
    assert quantile(many, 0.5) == pytest.approx(1.0) and quantile(many, 0.4) == 0.0
    assert quantile({"a": [0.0], "b": [1.0], "c": [2.0]}, 0.5) == 1.0
    assert quantile({"a": [0.0], "b": [10.0]}, 0.9) == pytest.approx(9.0)
    assert quantile({"a": [3.0]}, 0.9) == 3.0


@pytest.mark.parametrize(
    ("said", "source"),
    [
        ("index 71464252074", "71464252074"),
        ("public repository file, index ids 66889615147 / 67", "66889615147"),
        ("github.com/vllm-project/vllm#36973 (index 56806245819)", "36973"),
        ("github.com/graz-dev/studies", "akamaslabs"),
    ],
)
def test_a_source_is_known_by_any_of_its_names(said: str, source: str) -> None:
    assert source_of(Case("", {"id": "x", "source": said}, setup_of(), "0.28")) == source
