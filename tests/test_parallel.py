"""What ranks get of a model, and what cannot be divided."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kv_planner import plan
from vllm_kv_planner.engine_args.engine_args import EngineArgs, EngineEnvironment
from vllm_kv_planner.engine_args.parallel import (
    check_parallel,
    kv_heads_per_rank,
    split_layers,
    stage_ranges,
)
from vllm_kv_planner.errors import InputError

from .engine_cases import facts


@pytest.mark.parametrize(
    ("layers", "stages", "expected"),
    [
        (32, 1, (32,)),
        (32, 4, (8, 8, 8, 8)),
        (33, 4, (8, 8, 9, 8)),
        (34, 4, (8, 9, 9, 8)),
        (35, 4, (9, 9, 9, 8)),
        (61, 4, (15, 15, 16, 15)),
        (7, 2, (4, 3)),
    ],
)
def test_pipeline_stages(layers: int, stages: int, expected: tuple[int, ...]) -> None:
    assert split_layers(layers, stages) == expected
    assert [i for stage in stage_ranges(layers, stages) for i in stage] == list(range(layers))


def test_pipeline_stages_by_hand() -> None:
    assert split_layers(10, 2, "3,7") == (3, 7)
    for partition, message in (
        ("3,x", "Invalid partition string"),
        ("3,3,4", "does not match pp_size=2"),
        ("3,6", "does not match num_hidden_layers=10"),
    ):
        with pytest.raises(InputError, match=message):
            split_layers(10, 2, partition)
    with pytest.raises(InputError, match="larger than the model's 10 layers"):
        split_layers(10, 10**9)


@pytest.mark.parametrize(
    ("flags", "more", "message"),
    [
        ({"tensor_parallel_size": 3}, {}, r"attention heads \(32\) must be divisible by"),
        ({"enable_expert_parallel": True}, {}, "Number of experts"),
        ({"pipeline_parallel_size": 2}, {"supports_pp": False}, "Pipeline parallelism is not"),
        (
            {"tensor_parallel_size": 8, "decode_context_parallel_size": 3},
            {},
            "tp_size=8 must be divisible by dcp_size=3",
        ),
        (
            {"tensor_parallel_size": 8, "decode_context_parallel_size": 2},
            {},
            r"greater than the model's total number of KV heads \(8\)",
        ),
        (
            {"tensor_parallel_size": 16, "decode_context_parallel_size": 4},
            {},
            r"exceeds the maximum supported value \(2\)",
        ),
        (
            {"prefill_context_parallel_size": 2, "decode_context_parallel_size": 4},
            {"use_mla": True},
            r"valid DCP sizes are \[1, 2\]",
        ),
        ({"tensor_parallel_size": 4}, {"num_kv_heads": 6}, "6 is not divisible by 4"),
        (
            {"tensor_parallel_size": 6},
            {"num_attention_heads": 12, "num_kv_heads": 12, "vocab_size": 32_000},
            "32000 is not divisible by 6",
        ),
        ({"enable_eplb": True}, {}, "enable_expert_parallel must be True"),
    ],
)
def test_what_cannot_be_split(flags: dict[str, Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_parallel(EngineArgs(**flags), facts(**more), EngineEnvironment())


def test_what_can_be_split() -> None:
    env = EngineEnvironment()
    check_parallel(
        EngineArgs(tensor_parallel_size=16, decode_context_parallel_size=2), facts(), env
    )
    check_parallel(
        EngineArgs(tensor_parallel_size=8, decode_context_parallel_size=8),
        facts(use_mla=True, num_attention_heads=128, num_kv_heads=128, vocab_size=129_280),
        env,
    )
    assert kv_heads_per_rank(8, 16) == 1
    assert kv_heads_per_rank(8, 2) == 4
    assert kv_heads_per_rank(128, 8, use_mla=True) == 1


def test_layers_that_share_a_cache_stay_in_one_stage():
    """Gemma 4 E2B: layers 15 to 34 read the caches of 13 and 14; vLLM 0.33 refuses stages of 18."""
    with pytest.raises(InputError, match="layer 18 reads the KV cache of a layer outside"):
        plan(
            "google/gemma-4-E2B-it",
            gpu="H100",
            pipeline_parallel_size=2,
            max_model_len=4096,
            kv_cache_memory_bytes=1 << 30,
        )
