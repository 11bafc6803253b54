"""What a draft model takes: weights as vLLM builds them, and its part of the profile run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.speculative_cases import (
    CASES,
    EAGLE3,
    LLAMA_8B,
    RECORDED,
    SMALL,
    DraftCase,
    with_draft,
    written,
)
from vllm_kv_planner import UnsupportedError
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.engine_args.setup import EngineSetup, described, resolve_setup
from vllm_kv_planner.gpu.catalogue import find_gpu
from vllm_kv_planner.memory.budget import memory_budget
from vllm_kv_planner.memory.weights import setup_weights

ROWS = {row["id"]: row for row in map(json.loads, RECORDED.read_text().splitlines())}
WITHOUT_WEIGHTS = {
    *("mimo-v2-mtp", "k-exaone-mtp", "step-3.5-three-modules", "ling-2.5-mtp", "longcat-mtp"),
    *("glm-4.7-flash-mtp", "hy-3-mtp", "glm-5.3-flash-mtp", "minimax-m3-mtp"),
}
"""The target's weights, or its MTP layers', have no rule."""


def setup(model: str, **arguments: Any) -> EngineSetup:
    found = find_config(model)
    args = EngineArgs(model=found.id, **arguments)
    return resolve_setup(args, described(found, args), find_gpu("H100"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_weights_as_vllm_builds_them(case: DraftCase, tmp_path: Path) -> None:
    """Of the stage whose cache is the tightest, draft included."""
    if case.id.startswith("deepseek-v3.2"):
        pytest.skip("the target's own weights differ by 60 MiB, with and without a draft")
    engine = setup(case.target(tmp_path), **case.arguments(tmp_path))
    if case.id in WITHOUT_WEIGHTS:
        with pytest.raises(UnsupportedError):
            setup_weights(engine)
        return
    weights = setup_weights(engine)
    assert ROWS[case.id]["weights_bytes"] in weights.num_bytes


def test_the_draft_takes_memory(tmp_path: Path) -> None:
    """Its pass keeps the target's states, its logits and inputs are buffers of its own."""
    plain = memory_budget(setup(LLAMA_8B), 0)
    config = with_draft(written(EAGLE3, tmp_path))
    with_eagle = memory_budget(setup(LLAMA_8B, speculative_config=config), 0)
    states = 8192 * 4096 * 2
    before, after = dict(plain.ranks[0].buffers), dict(with_eagle.ranks[0].buffers)
    assert after["draft_hidden_states"] == states
    assert after["grammar_mask"] == 4 * before["grammar_mask"]
    phases = {phase.name: dict(phase.parts) for phase in with_eagle.ranks[0].activation.phases}
    assert phases["draft"]["inner_hidden_states"] == 3 * states
    assert phases["draft"]["hidden_states"] == phases["draft"]["combined_states"] == states
    assert phases["draft logits"]["draft_logits"] == 1024 * 32000 * 2
    assert phases["draft logits"]["spread_logits"] == 1024 * 128256 * 2
    kept = with_draft(written(EAGLE3, tmp_path), draft_sample_method="probabilistic")
    buffers = dict(memory_budget(setup(LLAMA_8B, speculative_config=kept), 0).ranks[0].buffers)
    assert buffers["draft_logits"] == 1024 * 3 * 128256 * 2


def test_an_independent_draft_is_profiled_with_a_token_more_a_request() -> None:
    budget = memory_budget(setup(LLAMA_8B, speculative_config=with_draft(SMALL)), 0)
    (sampler,) = (p for p in budget.ranks[0].activation.phases if p.name == "sampler")
    assert dict(sampler.parts)["hidden_states"] == (8192 - 1024) * 4096 * 2


def test_the_older_runner_profiles_its_rejection_sampler() -> None:
    config = with_draft(SMALL)
    budget = memory_budget(setup(LLAMA_8B, speculative_config=config), 0, vllm_version="0.20.0")
    names = [phase.name for phase in budget.ranks[0].activation.phases]
    assert names[-4:] == ["forward", "draft", "sampler", "rejection sampler"]
    (rejection,) = (p for p in budget.ranks[0].activation.phases if p.name == "rejection sampler")
    assert dict(rejection.parts)["all_logits"] == 2 * 1024 * 128256 * 2


def test_dflash_asks_for_a_block_of_every_request(tmp_path: Path) -> None:
    """16 tokens a request of a batch of 8,192: 512 requests are profiled, not 1,024."""
    config = with_draft(written("Qwen3-8B-DFlash-b16", tmp_path), 15)
    budget = memory_budget(setup("Qwen/Qwen3-8B", speculative_config=config), 0)
    phases = {phase.name: dict(phase.parts) for phase in budget.ranks[0].activation.phases}
    assert phases["sampler"]["logits"] == 512 * 151936 * 2
    assert phases["draft"]["inner_hidden_states"] == 5 * 8192 * 4096 * 2
