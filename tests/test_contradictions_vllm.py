"""Contradictory configs put to both planners: the same ones are refused, the others agree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.contradictions import LLAMA3, Case, shortened
from benchmarks.fuzz_configs import asked
from tests.vllm_python import CUDA, interpreter
from vllm_kv_planner import VLLMPlanner, plan
from vllm_kv_planner.config.find import FoundConfig
from vllm_kv_planner.config.presets import find_preset

PYTHON = interpreter(CUDA)
MEMORY = 40 << 30
QWEN = "Qwen/Qwen3-8B"
K2 = "moonshotai/Kimi-K2-Instruct"
GPT_OSS = "openai/gpt-oss-20b"
MAMBA = "state-spaces/mamba-130m-hf"


@pytest.fixture(scope="module")
def vllm() -> Iterator[VLLMPlanner]:
    with VLLMPlanner(python=PYTHON) as planner:
        yield planner


@pytest.mark.parametrize(
    ("name", "key", "change", "refused"),
    [
        (QWEN, "hidden_act", "relu", True),
        (QWEN, "hidden_act", "silu ", True),
        (K2, "n_group", None, True),
        (K2, "scoring_func", "unknown_kind", True),
        ("deepseek-ai/DeepSeek-V3", "scoring_func", "unknown_kind", False),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "num_local_experts", 0, True),
        (GPT_OSS, "num_local_experts", 0, False),
        (GPT_OSS, "rope_scaling", {"rope_type": "yarn", "factor": 32.0}, True),
        (MAMBA, "conv_kernel", 0, False),
        ("mistralai/Mamba-Codestral-7B-v0.1", "num_heads", 7, True),
        (
            "meta-llama/Llama-3.1-8B-Instruct",
            "rope_scaling",
            {**LLAMA3, "low_freq_factor": 0},
            True,
        ),
        ("google/gemma-2-9b-it", "query_pre_attn_scalar", -1, True),
    ],
)
def test_both_refuse_the_same(
    vllm: VLLMPlanner, name: str, key: str, change: object, refused: bool
) -> None:
    base = find_preset(name)
    assert base is not None
    config = Case(shortened(dict(base.config)), (), key, change).changed()
    assert config is not None
    found = FoundConfig(id="some/model", config=config, source="config.json")
    flags = {"kv_cache_memory_bytes": MEMORY, "gpu": "H100"}
    theirs = asked(lambda: vllm.plan(found, **flags))
    ours = asked(lambda: plan(found, planner="standalone", **flags))
    assert theirs.startswith("refused") is refused
    assert ours.startswith("refused") if refused else ours == theirs
