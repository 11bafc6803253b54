"""Workloads on which our scheduler and vLLM's are compared: engines, flags and made-up traces."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.shared import config_files
from vllm_kv_planner.capacity.request import PlanRequest, plan_request
from vllm_kv_planner.capacity.workload.types import Segment, TraceRequest

Trace = list[TraceRequest]


class Case(NamedTuple):
    """One engine and one trace.

    Attributes:
        name: Of its file.
        model: Hub id of a config in ../shared.
        args: Of the engine, vLLM's names.
        trace: Makes the requests.
        flags: Of the scheduler, where the engine's arguments do not have them.
        concurrency: Clients of a closed loop.
        step_time: Seconds a step.
    """

    name: str
    model: str
    args: dict[str, Any]
    trace: Callable[[], Trace]
    flags: dict[str, Any] = {}
    concurrency: int | None = None
    step_time: float | None = None


def made(
    seed: int,
    count: int,
    prompt: tuple[int, int],
    output: tuple[int, int],
    *,
    gap: float = 0.0,
    shared: tuple[int, ...] = (),
) -> Callable[[], Trace]:
    """``count`` requests with lengths between bounds, arriving ``gap`` steps apart on average.

    ``shared``: lengths of segments; a request begins with some of them, in this order.
    """

    def trace() -> Trace:
        draw = random.Random(seed)
        now, requests = 0.0, []
        for _ in range(count):
            depth = draw.randint(0, len(shared))
            variant = draw.randint(0, 2)
            prefix = [
                Segment(f"{variant if each else 'all'}-{each}", shared[each])
                for each in range(depth)
            ]
            tokens = sum(each.tokens for each in prefix) + draw.randint(*prompt)
            requests.append(TraceRequest(now, tokens, draw.randint(*output), tuple(prefix)))
            now = round(now + (draw.expovariate(1 / gap) if gap else 0.0), 3)
        return requests

    return trace


def case_request(case: Case, config: dict[str, Any] | None, folder: Path) -> PlanRequest:
    """The engine of a case; ``config`` where it is made up, else its model's own from ../shared."""
    path = config_files()[case.model] if config is None else folder / f"{case.model}.json"
    if config is not None:
        path.write_text(json.dumps(config), encoding="utf-8")
    return plan_request(path, gpu="H100", **case.args)


QWEN = "Qwen/Qwen2.5-7B"
_SMALL: dict[str, Any] = {"max_model_len": 4096, "max_num_batched_tokens": 2048}
_PREFIXES = (37, 200, 64, 500)


def cut(seed: int, count: int) -> Callable[[], Trace]:
    """Requests that share a segment as far as each of them goes, and segments seen before."""

    def trace() -> Trace:
        draw = random.Random(seed)
        requests = []
        for now in range(count):
            first = Segment("first", draw.randint(1, 300))
            second = Segment(draw.choice(("second", "first", 7, "7")), draw.randint(1, 300))
            tokens = first.tokens + second.tokens + draw.choice((0, 1, 50))
            requests.append(TraceRequest(2.0 * now, tokens, draw.randint(1, 40), (first, second)))
        return requests

    return trace


def _hybrid(name: str, model: str, blocks: int, scale: int = 1, **args: Any) -> list[Case]:
    """A hybrid with prompts of many lengths: without shared prefixes, with, and with few blocks."""
    base = {
        "max_model_len": 8192 * scale,
        "max_num_batched_tokens": 2048,
        "num_gpu_blocks_override": blocks,
        **args,
    }
    return [
        Case(
            f"{name}_plain",
            model,
            {**base, "enable_prefix_caching": False},
            made(21, 60, (10, 6000 * scale), (5, 300), gap=12),
        ),
        Case(
            f"{name}_prefix",
            model,
            {**base, "enable_prefix_caching": True},
            made(
                22,
                80,
                (10, 2500 * scale),
                (5, 200),
                gap=4,
                shared=(37, 1200, 64 * scale, 1500 * scale),
            ),
        ),
        Case(
            f"{name}_preempting",
            model,
            {**base, "enable_prefix_caching": True},
            made(23, 60, (10, 1500 * scale), (200, 1200), gap=2, shared=(37, 1200 * scale)),
        ),
    ]


CASES = (
    Case(
        "plain",
        QWEN,
        {**_SMALL, "num_gpu_blocks_override": 2000, "max_num_seqs": 64},
        made(1, 200, (20, 1500), (5, 200), gap=2.0),
    ),
    Case(
        "plain_seconds",
        QWEN,
        {**_SMALL, "num_gpu_blocks_override": 2000, "max_num_seqs": 64},
        made(2, 60, (20, 1500), (5, 60), gap=2.0),
        step_time=0.03,
    ),
    Case(
        "idle_gaps",
        QWEN,
        {**_SMALL, "num_gpu_blocks_override": 600},
        made(3, 40, (20, 900), (1, 20), gap=30.0),
    ),
    Case(
        "seqs_limit",
        QWEN,
        {**_SMALL, "num_gpu_blocks_override": 4000, "max_num_seqs": 8},
        made(4, 60, (1, 600), (1, 60)),
    ),
    Case(
        "prefix_heavy",
        QWEN,
        {**_SMALL, "num_gpu_blocks_override": 300},
        made(5, 150, (1, 400), (1, 60), gap=3.0, shared=_PREFIXES),
    ),
    Case(
        "prefix_uncached",
        QWEN,
        {**_SMALL, "num_gpu_blocks_override": 300, "enable_prefix_caching": False},
        made(5, 60, (1, 400), (1, 60), gap=3.0, shared=_PREFIXES),
    ),
    Case("cut_segments", QWEN, {**_SMALL, "num_gpu_blocks_override": 300}, cut(25, 80)),
    Case(
        "whole_blocks",
        QWEN,
        {**_SMALL, "num_gpu_blocks_override": 280},
        made(6, 80, (16, 16), (16, 64), gap=2.0, shared=(16, 32, 160)),
    ),
    Case(
        "preempting",
        QWEN,
        {**_SMALL, "max_model_len": 2048, "num_gpu_blocks_override": 200},
        made(7, 80, (10, 200), (50, 600)),
    ),
    Case(
        "preempting_uncached",
        QWEN,
        {
            **_SMALL,
            "max_model_len": 2048,
            "num_gpu_blocks_override": 200,
            "enable_prefix_caching": False,
        },
        made(8, 80, (10, 200), (50, 600), gap=3.0),
    ),
    Case(
        "long_context",
        QWEN,
        {"max_model_len": 32768, "max_num_batched_tokens": 2048, "num_gpu_blocks_override": 6000},
        made(9, 40, (500, 32000), (5, 100), gap=10.0),
    ),
    Case(
        "long_context_threshold",
        QWEN,
        {
            "max_model_len": 32768,
            "max_num_batched_tokens": 2048,
            "num_gpu_blocks_override": 6000,
            "long_prefill_token_threshold": 512,
        },
        made(9, 40, (500, 32000), (5, 100), gap=10.0),
    ),
    Case(
        "long_context_adaptive",
        QWEN,
        {
            "max_model_len": 32768,
            "max_num_batched_tokens": 2048,
            "num_gpu_blocks_override": 6000,
            "long_prefill_token_threshold": 128,
        },
        made(9, 30, (500, 32000), (5, 100), gap=10.0),
        flags={"long_prefill_token_threshold_adaptive": True},
    ),
    Case(
        "priority",
        QWEN,
        {**_SMALL, "max_model_len": 2048, "num_gpu_blocks_override": 200},
        made(10, 60, (10, 300), (50, 500), gap=5.0),
        flags={"scheduling_policy": "priority"},
    ),
    Case(
        "watermark",
        QWEN,
        {**_SMALL, "max_model_len": 2048, "num_gpu_blocks_override": 200},
        made(11, 60, (10, 300), (50, 500), gap=5.0),
        flags={"watermark": 0.05},
    ),
    Case(
        "first_chunk_only",
        QWEN,
        {**_SMALL, "num_gpu_blocks_override": 300},
        made(12, 40, (500, 3500), (50, 400), gap=5.0),
        flags={"scheduler_reserve_full_isl": False},
    ),
    Case(
        "prefill_interval",
        QWEN,
        {**_SMALL, "num_gpu_blocks_override": 1000},
        made(13, 60, (10, 3000), (5, 100), gap=5.0),
        flags={"prefill_schedule_interval": 4},
    ),
    Case(
        "active_seqs",
        QWEN,
        {
            **_SMALL,
            "num_gpu_blocks_override": 1000,
            "max_num_seqs": 32,
            "max_num_active_seqs": 6,
            "max_num_scheduled_tokens": 1000,
        },
        made(14, 60, (10, 3000), (5, 100), gap=5.0),
    ),
    Case(
        "unchunked",
        QWEN,
        {
            "max_model_len": 2048,
            "max_num_batched_tokens": 2048,
            "num_gpu_blocks_override": 500,
            "enable_chunked_prefill": False,
        },
        made(15, 60, (10, 1900), (5, 100), gap=5.0),
    ),
    Case(
        "closed_loop",
        QWEN,
        {**_SMALL, "num_gpu_blocks_override": 400},
        made(16, 120, (10, 1200), (1, 150), shared=(300,)),
        concurrency=12,
    ),
    Case(
        "too_long",
        QWEN,
        {**_SMALL, "max_model_len": 512, "num_gpu_blocks_override": 100},
        made(17, 60, (10, 700), (1, 400), gap=4.0),
    ),
    Case(
        "too_long_closed_loop",
        QWEN,
        {**_SMALL, "max_model_len": 512, "num_gpu_blocks_override": 100},
        made(18, 60, (10, 700), (1, 400)),
        concurrency=5,
    ),
    Case(
        "pipeline",
        QWEN,
        {**_SMALL, "num_gpu_blocks_override": 400, "pipeline_parallel_size": 2},
        made(19, 60, (10, 1500), (1, 200), gap=2.0, shared=(300,)),
    ),
    Case(
        "mla",
        "deepseek-ai/DeepSeek-V2-Lite",
        {**_SMALL, "num_gpu_blocks_override": 300},
        made(20, 80, (10, 1500), (5, 200), gap=3.0, shared=_PREFIXES),
    ),
    Case(
        "sliding_only",
        "mistralai/Mistral-7B-v0.1",
        {"max_model_len": 16384, "max_num_batched_tokens": 2048, "num_gpu_blocks_override": 1100},
        made(24, 40, (100, 12000), (5, 600), gap=10.0, shared=(300, 5000)),
    ),
    *_hybrid("gemma3", "google/gemma-3-1b-it", 3000),
    *_hybrid("gpt_oss", "openai/gpt-oss-20b", 1600),
    *_hybrid(
        "llama4",
        "meta-llama/Llama-4-Scout-17B-16E-Instruct",
        8000,
        scale=4,
        tensor_parallel_size=8,
    ),
    *_hybrid("gemma4", "google/gemma-4-26B-A4B-it", 2000),
    *_hybrid("qwen3_next", "Qwen/Qwen3-Next-80B-A3B-Thinking", 60, tensor_parallel_size=4),
    *_hybrid("nemotron_h", "nvidia/Nemotron-3-Nano", 60),
    *_hybrid("jamba", "ai21labs/AI21-Jamba-1.5-Mini", 200, tensor_parallel_size=8),
)
