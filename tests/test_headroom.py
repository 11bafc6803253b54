"""What is left after the start, and what requests may take of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.memory_engines import GIB, MIB, peak_of, rank_of, setup_of
from vllm_kv_planner import plan
from vllm_kv_planner.memory.headroom import Risk, risks, wanted_bytes


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def risk_of(name: str, model: str, version: str, **flags: Any) -> Risk | None:
    setup = setup_of(model, **flags)
    found = risks(rank_of(setup, version), peak_of(setup, version))
    return next((risk for risk in found if risk.name == name), None)


def test_prompt_logprobs_of_a_whole_step_on_v1_and_of_1024_tokens_on_v2() -> None:
    """8,192 tokens x 151,936 words: 2 bytes of logits and 4 of logprobs, less the profiled peak."""
    moe, setup = "Qwen/Qwen3-30B-A3B", setup_of("Qwen/Qwen3-30B-A3B")
    old = risk_of("prompt logprobs", moe, "0.26")
    assert old is not None and old.size_bytes is not None
    peak = peak_of(setup, "0.26").least_bytes
    assert old.size_bytes + peak == pytest.approx(8192 * (151936 * 6 + 2048 * 2), rel=0.01)
    shorter = risk_of("prompt logprobs", moe, "0.26", max_num_batched_tokens=4096)
    assert shorter is not None and (shorter.size_bytes or 0) < old.size_bytes / 2
    assert risk_of("prompt logprobs", moe, "0.33") is None  # 0.3 GiB, and 2.1 are profiled
    assert risk_of("prompt logprobs", "Qwen/Qwen3-Embedding-0.6B", "0.33", runner="pooling") is None


def test_flashinfer_allocates_its_workspace_at_the_first_step() -> None:
    qwen = "Qwen/Qwen3-8B"
    flags = {"attention_backend": "FLASHINFER", "gpu": "RTX 4090"}
    old = risk_of("attention workspace", qwen, "0.26", **flags)
    assert old is not None and old.size_bytes == 394 * MIB
    wide = risk_of("attention workspace", qwen, "0.33", max_num_batched_tokens=8192, **flags)
    assert wide is not None and wide.size_bytes == 8192 * 4096 * 16
    assert risk_of("attention workspace", qwen, "0.33") is None


def test_what_nobody_knows_is_null() -> None:
    nccl = risk_of("NCCL's buffers of first use", "Qwen/Qwen3-8B", "0.33", tensor_parallel_size=2)
    assert nccl is not None and nccl.size_bytes is None and "NCCL_RUNTIME_CONNECT" in nccl.remedy
    images = risk_of("images and videos of other kinds at once", "Qwen/Qwen3.5-9B", "0.33")
    assert images is not None and images.size_bytes is None


def test_lasting_ones_add_up_and_the_largest_of_the_rest_counts() -> None:
    def one(size: int | None, *, lasts: bool) -> Risk:
        return Risk(name="", size_bytes=size, lasts=lasts, source="", remedy="")

    found = (one(5, lasts=False), one(3, lasts=False), one(2, lasts=True), one(1, lasts=True))
    assert wanted_bytes((*found, one(None, lasts=True))) == 8


def test_the_plan_tells_it() -> None:
    answer = plan("Qwen/Qwen3-8B", gpu="RTX 4090", max_model_len=8192, planner="standalone")
    headroom = answer.headroom
    assert headroom is not None
    memory = answer.memory
    total = 23.52 * GIB
    assert headroom.left_bytes == pytest.approx(total * 0.08 - 0.39 * GIB, abs=0.02 * GIB)
    assert sorted(answer.to_dict()["headroom"]) == [
        *("left_bytes", "risks", "uncertainty_bytes", "wanted_bytes")
    ]
    # a cache given smaller leaves so much more, and nobody knows the room of a GPU nobody named
    given = (memory.available_kv_cache_bytes or 0) - GIB
    flags = {"max_model_len": 8192, "planner": "standalone", "kv_cache_memory_bytes": given}
    smaller = plan("Qwen/Qwen3-8B", gpu="RTX 4090", **flags).headroom
    assert smaller is not None
    assert smaller.left_bytes == pytest.approx(headroom.left_bytes + GIB, abs=MIB)
    assert plan("Qwen/Qwen3-8B", **flags).headroom is None


def test_the_text_names_what_may_find_no_room(capsys: pytest.CaptureFixture[str]) -> None:
    from vllm_kv_planner.cli import main

    words = ["plan", "Qwen/Qwen3-30B-A3B-FP8", "--gpu", "L40S", "--vllm-version", "0.26"]
    main([*words, "--max-num-batched-tokens", "8192", "--max-model-len", "8192"])
    row = next(line for line in capsys.readouterr().out.splitlines() if "Left on the GPU" in line)
    assert "prompt logprobs may take" in row and "--max-num-batched-tokens" in row
    main([*words, "--max-model-len", "8192", "--gpu-memory-utilization", "0.8"])
    row = next(line for line in capsys.readouterr().out.splitlines() if "Left on the GPU" in line)
    assert "once graphs are captured" in row
