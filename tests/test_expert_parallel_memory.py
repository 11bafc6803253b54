"""Experts spread over GPUs: how they are cut, and what balancing them takes."""

from __future__ import annotations

import pytest

from tests.memory_engines import GIB, peak_of, phase, rank_of, setup_of
from vllm_kv_planner.memory.activation import runner_buffers
from vllm_kv_planner.memory.overheads import known_overheads, non_torch

from .weight_cases import BF16, QWEN3_MOE, estimate

QWEN_MOE = "Qwen/Qwen3-30B-A3B"
LAYERS, EXPERTS, HIDDEN, WIDTH = 48, 128, 2048, 768


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_data_parallel_engines_cut_through_every_expert() -> None:
    """As ``--planner vllm`` registers them: without expert parallelism all GPUs share each."""
    one, router = 3 * HIDDEN * WIDTH * BF16, EXPERTS * HIDDEN * BF16
    (two,) = estimate(QWEN3_MOE, data_parallel_size=2).stages
    assert two.parts["experts"] == LAYERS * (EXPERTS * one // 2 + router)
    (four,) = estimate(QWEN3_MOE, data_parallel_size=2, tensor_parallel_size=2).stages
    assert four.parts["experts"] == LAYERS * (EXPERTS * one // 4 + router)
    assert rank_of(setup_of(QWEN_MOE, data_parallel_size=2)).shapes.experts == (
        rank_of(setup_of(QWEN_MOE, tensor_parallel_size=2)).shapes.experts
    )


def test_redundant_experts_are_held_and_mapped() -> None:
    flags = {"tensor_parallel_size": 2, "enable_expert_parallel": True, "enable_eplb": True}
    one, router = 3 * HIDDEN * WIDTH * BF16, EXPERTS * HIDDEN * BF16
    (rank,) = estimate(QWEN3_MOE, **flags, eplb_config={"num_redundant_experts": 8}).stages
    assert rank.parts["experts"] == LAYERS * (68 * one + router + (128 + 8) * 4)


def test_balancing_by_hand() -> None:
    flags = {"data_parallel_size": 4, "enable_expert_parallel": True}
    assert "expert_buffer" not in dict(runner_buffers(rank_of(setup_of(QWEN_MOE, **flags))))
    assert "balancing" not in " ".join(p.name for p in peak_of(setup_of(QWEN_MOE, **flags)).phases)
    config = {"num_redundant_experts": 16, "window_size": 500}
    setup = setup_of(QWEN_MOE, **flags, enable_eplb=True, eplb_config=config)
    first, second = 36 * 2 * WIDTH * HIDDEN * BF16, 36 * HIDDEN * WIDTH * BF16  # (128 + 16) / 4
    kept = dict(runner_buffers(rank_of(setup, "0.33.0")))
    assert kept["expert_places"] == LAYERS * EXPERTS * 1024 * 8
    assert kept["expert_loads"] == 500 * LAYERS * 144 * 4
    assert kept["expert_buffer"] == first + second
    live = phase(peak_of(setup, "0.33.0"), "balancing of experts")
    assert live["expert_profile_buffer"] == first + second
    assert live["gathered_experts"] == 4 * first


def test_nixl_gathers_nothing() -> None:
    flags = {"data_parallel_size": 4, "enable_expert_parallel": True, "enable_eplb": True}
    setup = setup_of(QWEN_MOE, **flags, eplb_config={"communicator": "nixl"})
    assert {each.name for each in peak_of(setup, "0.33.0").phases} == {"forward", "sampler"}


@pytest.mark.parametrize(
    ("backend", "ranks", "size"),
    [
        ("allgather_reducescatter", 4, 0),
        ("deepep_high_throughput", 4, GIB),
        ("deepep_high_throughput", 16, 2 * GIB),  # more than a node: RDMA, too
        # 256 tokens; two sets of send and receive buffers, of 4 bytes a scale and 2 a weight
        ("deepep_low_latency", 4, GIB + 2 * 128 * 256 * (16 * 4 + 2 * 2048) * 2),
    ],
)
def test_buffers_of_the_exchange(backend: str, ranks: int, size: int) -> None:
    flags = {"data_parallel_size": ranks, "enable_expert_parallel": True}
    plain, asked = (
        non_torch(rank_of(setup_of(QWEN_MOE, **flags, **more)), known_overheads())
        for more in ({"max_num_batched_tokens": 256}, {"all2all_backend": backend})
    )
    assert asked.size_bytes - plain.size_bytes == size
    assert ("DeepEP" in asked.how) is (size > 0)


def test_an_exchange_nobody_measured_is_doubtful() -> None:
    flags = {"data_parallel_size": 4, "enable_expert_parallel": True, "all2all_backend": "nixl_ep"}
    found = non_torch(rank_of(setup_of(QWEN_MOE, **flags)), known_overheads())
    assert "nixl_ep" in found.how
    assert found.uncertainty_bytes > GIB
