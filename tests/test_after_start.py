"""What a start takes once its KV cache is there, and whether the GPU has it."""

from __future__ import annotations

import pytest

from tests.memory_engines import GIB, MIB, setup_of
from vllm_kv_planner import plan
from vllm_kv_planner.gpu.catalogue import find_gpu
from vllm_kv_planner.memory.budget import MemoryBudget, memory_budget
from vllm_kv_planner.records import replace


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def with_adapter(version: str, free: float | None = None, share: float = 0.92) -> MemoryBudget:
    """Qwen3-4B with one adapter on an RTX 4090: ended without memory at 0.27.1, and ran at 0.80."""
    setup = setup_of(
        "Qwen/Qwen3-4B",
        gpu="RTX 4090",
        enable_lora=True,
        max_lora_rank=16,
        gpu_memory_utilization=share,
    )
    free_bytes = None if free is None else int(free * GIB)
    return memory_budget(setup, int(7.63 * GIB), vllm_version=version, free_memory_bytes=free_bytes)


def test_model_runner_v2_warms_up_a_sampler_that_it_did_not_profile() -> None:
    """256 requests of 151,936 words: 2 bytes a logit, 4 of a copy, 8 of FlashInfer's."""
    rank = with_adapter("0.27").ranks[0]
    hidden = (2048 + 256) * 2560 * 2
    in_use = 14 * 256 * 151936 + hidden + 8 * MIB
    assert rank.activation.least_bytes + rank.activation.beyond_bytes == pytest.approx(
        in_use, rel=0.02
    )
    assert with_adapter("0.33").ranks[0].activation.beyond_bytes == 0
    assert with_adapter("0.19").ranks[0].activation.beyond_bytes == 0  # Model Runner V1


def test_a_start_that_ended_without_memory_is_not_promised() -> None:
    assert not with_adapter("0.27", free=22.64).starts_surely
    assert with_adapter("0.27", free=22.64, share=0.8).starts_surely


def test_what_is_requested_holds_the_peak_once() -> None:
    """Qwen3.5-9B on four RTX 3090 (0.19): ran with 1.9 GiB not requested, and a peak of 1.25."""
    setup = setup_of(
        "Qwen/Qwen3.5-9B", gpu="RTX 3090", tensor_parallel_size=4, gpu_memory_utilization=0.9
    )
    budget = memory_budget(setup, 5 * GIB, vllm_version="0.19.0")
    assert budget.starts_surely
    assert budget.ranks[0].activation.peak_bytes > budget.left_bytes(budget.ranks[0]) * 0.9


@pytest.mark.parametrize("gpu", ["RTX 3090", "RTX 4090", "RTX 3060", "T4", "L4"])
def test_a_small_model_fits_by_default(gpu: str) -> None:
    assert plan("Qwen/Qwen3-0.6B", gpu=gpu).verdict == "fits"


def test_windows_is_known_by_its_total_and_spills() -> None:
    """Qwen2.5-0.5B under WSL (0.27.1): 22.07 GiB requested of 22.45 free, and ran."""
    gpu = find_gpu("RTX 4090")
    assert not gpu.under_windows and not replace(gpu, torch_total_bytes=24 * GIB).under_windows
    windows = replace(gpu, torch_total_bytes=int(23.99 * GIB))
    assert windows.under_windows
    setup = setup_of("Qwen/Qwen2.5-0.5B-Instruct", gpu="RTX 4090", gpu_memory_utilization=0.92)
    setup = replace(setup, gpu=windows)
    budget = memory_budget(setup, GIB, vllm_version="0.27")
    assert budget.free_at_start_bytes == pytest.approx(22.5 * GIB, rel=0.01)
    assert budget.left_bytes(budget.ranks[0]) < budget.left_uncertainty_bytes(budget.ranks[0])
    assert budget.spills and budget.starts_surely


def test_the_limit_names_its_figures() -> None:
    answer = plan("Qwen/Qwen3-4B", gpu="RTX 3090", vllm_version="0.28", max_model_len=8192)
    assert answer.verdict == "borderline"
    (limit,) = answer.limits
    assert "beside what is requested" in limit and "--other-processes" in limit
