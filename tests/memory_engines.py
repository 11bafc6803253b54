"""Engines whose memory the tests look into, and what they look at."""

from __future__ import annotations

from typing import Any

from vllm_kv_planner.config.find import FoundConfig, find_config
from vllm_kv_planner.engine_args.engine_args import EngineArgs, EngineEnvironment
from vllm_kv_planner.engine_args.setup import EngineSetup, described, resolve_setup
from vllm_kv_planner.gpu.catalogue import find_gpu
from vllm_kv_planner.memory.activation import ActivationPeak, activation_peak
from vllm_kv_planner.memory.phase import Phase
from vllm_kv_planner.memory.rank import Rank
from vllm_kv_planner.memory.versions import version_rules

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
V1 = EngineEnvironment(use_v2_model_runner=False)


def setup_of(
    model: str | dict[str, Any] = LLAMA,
    gpu: str = "H100",
    environment: EngineEnvironment | None = None,
    **flags: Any,
) -> EngineSetup:
    found = (
        find_config(model)
        if isinstance(model, str)
        else FoundConfig(id="test/model", config=model, source="custom")
    )
    args = EngineArgs(model=found.id, **{"max_model_len": 8192, **flags})
    return resolve_setup(args, described(found, args), find_gpu(gpu), environment)


def rank_of(setup: EngineSetup, version: str = "0.19.0", stage: int = 0) -> Rank:
    return Rank(setup=setup, rules=version_rules(version), stage=stage)


def peak_of(setup: EngineSetup, version: str = "0.19.0", stage: int = 0) -> ActivationPeak:
    return activation_peak(rank_of(setup, version, stage))


def phase(peak: ActivationPeak, name: str) -> dict[str, int]:
    found: Phase = next(each for each in peak.phases if each.name == name)
    assert all(type(size) is int for _, size in found.parts)
    return dict(found.parts)


def llama_config(**changes: Any) -> dict[str, Any]:
    return {**find_config(LLAMA).config, **changes}
