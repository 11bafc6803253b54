"""Batch defaults and caps, from vLLM's source by hand."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kv_planner.engine_args.defaults import resolve_engine
from vllm_kv_planner.engine_args.engine_args import EngineArgs, UsageContext
from vllm_kv_planner.engine_args.runner import BatchSizes, resolve_batch_sizes
from vllm_kv_planner.errors import InputError
from vllm_kv_planner.gpu import find_gpu

from .engine_cases import facts


@pytest.mark.parametrize(
    ("gpu", "server", "llm"),
    [
        ("h100", (8192, 1024), (16384, 1024)),
        ("h200", (8192, 1024), (16384, 1024)),
        ("gh200", (8192, 1024), (16384, 1024)),
        ("rtx pro 6000", (8192, 1024), (16384, 1024)),
        ("b200", (16384, 1024), (16384, 1024)),
        ("mi300x", (16384, 1024), (16384, 1024)),
        ("a100", (2048, 256), (8192, 256)),  # 80 GB, but "a100" in its name
        ("gb10", (2048, 256), (8192, 256)),  # 121 GiB, but compute capability 12.1
        ("l4", (2048, 256), (8192, 256)),
    ],
)
def test_batch_defaults(gpu: str, server: tuple[int, int], llm: tuple[int, int]) -> None:
    device = find_gpu(gpu)
    contexts: tuple[tuple[UsageContext, tuple[int, int]], ...] = (("server", server), ("llm", llm))
    for context, expected in contexts:
        args = EngineArgs(usage_context=context)
        batch = resolve_engine(args, facts(), device).batch
        assert (batch.max_num_batched_tokens, batch.max_num_seqs) == expected
        assert batch.max_num_encoder_input_tokens == expected[0]


def sizes(max_model_len: int = 8192, chunked: bool = True, **flags: Any) -> tuple[int, int]:
    defaults = BatchSizes(8192, 1024)
    batch = resolve_batch_sizes(
        EngineArgs(**flags), defaults, max_model_len=max_model_len, chunked_prefill=chunked
    )
    return batch.max_num_batched_tokens, batch.max_num_seqs


def test_batch_caps() -> None:
    assert sizes(performance_mode="throughput") == (16384, 2048)
    assert sizes(performance_mode="throughput", max_num_seqs=64) == (16384, 64)
    assert sizes(max_model_len=448, max_num_seqs=4) == (4 * 448, 4)
    assert sizes(max_num_batched_tokens=512) == (512, 512)
    assert sizes(max_model_len=131_072, chunked=False) == (131_072, 1024)
    moe: dict[str, Any] = {"all2all_backend": "deepep_low_latency", "enable_expert_parallel": True}
    assert sizes(data_parallel_size=2, **moe) == (256, 256)
    with pytest.raises(InputError, match="smaller than max_model_len"):
        sizes(chunked=False, max_num_batched_tokens=4096)
    with pytest.raises(InputError, match="greater than or equal to max_num_seqs"):
        sizes(max_num_batched_tokens=8, max_num_seqs=16)
    with pytest.raises(InputError, match="max_num_active_seqs"):
        sizes(max_num_active_seqs=2000)
    with pytest.raises(InputError, match="long_prefill_token_threshold"):
        sizes(long_prefill_token_threshold=9000)
