"""The second embedding table that compiling makes; sizes by hand and as starts printed them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.memory_engines import GIB, MIB, V1, peak_of, phase, rank_of, setup_of
from vllm_kv_planner.memory.overheads import known_overheads, non_torch

QWEN = "Qwen/Qwen3-8B-FP8"
FEW: dict[str, Any] = {"max_num_seqs": 256, "max_num_batched_tokens": 2048}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_first_stage_of_llama_as_the_engine_printed() -> None:
    """H100 at 0.19: 1.1 GiB on the first of two stages."""
    peak = peak_of(setup_of(pipeline_parallel_size=2))
    assert peak.peak.name == "compilation"
    table, rows = 128256 * 4096 * 2, 8192 * 4096 * 2
    assert dict(peak.peak.parts) == {"embedding_table": table, "embedded": rows, "normed": rows}
    assert round(peak.peak_bytes / GIB, 2) == 1.10
    assert "cache" in peak.how


def test_a_small_slice_as_the_engine_printed() -> None:
    """RTX PRO 4500's slice at 0.29: 1.14 GiB, and 1.28 GiB consumed beside the weights."""
    setup = setup_of(QWEN, "RTX-PRO-4500-32GB", environment=V1, **FEW)
    peak = peak_of(setup, "0.29.0")
    table = 151936 * 4096 * 2
    assert peak.peak_bytes == pytest.approx(1.14 * GIB + 8 * MIB + 47.5 * MIB, abs=0.01 * GIB)
    outside = non_torch(rank_of(setup, "0.29.0"), known_overheads())
    assert outside.size_bytes == pytest.approx(1.28 * GIB, abs=0.1 * GIB)
    assert outside.size_bytes > table
    assert non_torch(rank_of(setup, "0.30.0"), known_overheads()).size_bytes > table
    # from 0.31 on the whole of it is given back
    assert non_torch(rank_of(setup, "0.31.0"), known_overheads()).size_bytes < table // 2


@pytest.mark.parametrize(
    ("version", "flags"),
    [
        ("0.17.1", {}),
        ("0.33.0", {}),
        ("0.29.0", {"enforce_eager": True}),
        ("0.29.0", {"optimization_level": "0"}),
        ("0.29.0", {"compilation_config": {"mode": 0}}),
        (
            "0.29.0",
            {"compilation_config": {"inductor_compile_config": {"benchmark_combo_kernel": False}}},
        ),
    ],
)
def test_engines_that_measure_nothing(version: str, flags: dict[str, Any]) -> None:
    peak = peak_of(setup_of(QWEN, "L4", **FEW, **flags), version)
    assert "compilation" not in {each.name for each in peak.phases}


def test_where_the_lookup_lies_outside_the_compiled_model() -> None:
    last = peak_of(setup_of(pipeline_parallel_size=2), stage=1)
    images = peak_of(setup_of("google/gemma-3-4b-it"))
    for peak in (last, images):
        assert "compilation" not in {each.name for each in peak.phases}
    text = peak_of(setup_of("google/gemma-3-4b-it", language_model_only=True))
    assert "compilation" in {each.name for each in text.phases}


def test_tensor_parallelism_divides_the_table() -> None:
    parts = phase(peak_of(setup_of(tensor_parallel_size=4)), "compilation")
    assert parts == {"embedding_table": 128256 * 4096 * 2 // 4, "embedded": 64 * MIB}
