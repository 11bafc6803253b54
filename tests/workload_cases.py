"""Workloads on which our scheduler and vLLM's are compared: engines, flags and made-up traces."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.shared import config_files
from vllm_kv_planner.planning.request import PlanRequest, plan_request
from vllm_kv_planner.workload.types import Segment, TraceRequest

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
        "enforce_eager": True,  # captured whole, a step asks for a state of every sequence
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


def _one(name: str, blocks: int, trace: Callable[[], Trace], **more: Any) -> Case:
    """Layers of one kind; ``more`` are arguments of the engine, and what a ``Case`` has."""
    of_case = {key: more.pop(key) for key in Case._fields if key in more}
    args = {**_SMALL, "num_gpu_blocks_override": blocks, **more}
    return Case(name=name, trace=trace, args=args, **{"model": QWEN, **of_case})


_LONG = {"max_model_len": 32768}
_SHORT = {"max_model_len": 2048}
_TIGHT = made(11, 60, (10, 300), (50, 500), gap=5.0)
_CHUNKS = made(13, 60, (10, 3000), (5, 100), gap=5.0)

CASES = (
    _one("plain", 2000, made(1, 200, (20, 1500), (5, 200), gap=2.0), max_num_seqs=64),
    _one(
        "plain_seconds",
        2000,
        made(2, 60, (20, 1500), (5, 60), gap=2.0),
        max_num_seqs=64,
        step_time=0.03,
    ),
    _one("idle_gaps", 600, made(3, 40, (20, 900), (1, 20), gap=30.0)),
    _one("seqs_limit", 4000, made(4, 60, (1, 600), (1, 60)), max_num_seqs=8),
    _one("prefix_heavy", 300, made(5, 150, (1, 400), (1, 60), gap=3.0, shared=_PREFIXES)),
    _one(
        "prefix_uncached",
        300,
        made(5, 60, (1, 400), (1, 60), gap=3.0, shared=_PREFIXES),
        enable_prefix_caching=False,
    ),
    _one("cut_segments", 300, cut(25, 80)),
    _one("whole_blocks", 280, made(6, 80, (16, 16), (16, 64), gap=2.0, shared=(16, 32, 160))),
    _one("preempting", 200, made(7, 80, (10, 200), (50, 600)), **_SHORT),
    _one(
        "preempting_uncached",
        200,
        made(8, 80, (10, 200), (50, 600), gap=3.0),
        enable_prefix_caching=False,
        **_SHORT,
    ),
    _one("long_context", 6000, made(9, 40, (500, 32000), (5, 100), gap=10.0), **_LONG),
    _one(
        "long_context_threshold",
        6000,
        made(9, 40, (500, 32000), (5, 100), gap=10.0),
        long_prefill_token_threshold=512,
        **_LONG,
    ),
    _one(
        "long_context_adaptive",
        6000,
        made(9, 30, (500, 32000), (5, 100), gap=10.0),
        long_prefill_token_threshold=128,
        flags={"long_prefill_token_threshold_adaptive": True},
        **_LONG,
    ),
    _one(
        "priority",
        200,
        made(10, 60, (10, 300), (50, 500), gap=5.0),
        flags={"scheduling_policy": "priority"},
        **_SHORT,
    ),
    _one("watermark", 200, _TIGHT, flags={"watermark": 0.05}, **_SHORT),
    _one(
        "first_chunk_only",
        300,
        made(12, 40, (500, 3500), (50, 400), gap=5.0),
        flags={"scheduler_reserve_full_isl": False},
    ),
    _one("prefill_interval", 1000, _CHUNKS, flags={"prefill_schedule_interval": 4}),
    _one(
        "active_seqs",
        1000,
        made(14, 60, (10, 3000), (5, 100), gap=5.0),
        max_num_seqs=32,
        max_num_active_seqs=6,
        max_num_scheduled_tokens=1000,
    ),
    _one(
        "unchunked",
        500,
        made(15, 60, (10, 1900), (5, 100), gap=5.0),
        enable_chunked_prefill=False,
        **_SHORT,
    ),
    _one("closed_loop", 400, made(16, 120, (10, 1200), (1, 150), shared=(300,)), concurrency=12),
    _one("too_long", 100, made(17, 60, (10, 700), (1, 400), gap=4.0), max_model_len=512),
    _one(
        "too_long_closed_loop",
        100,
        made(18, 60, (10, 700), (1, 400)),
        max_model_len=512,
        concurrency=5,
    ),
    _one(
        "pipeline",
        400,
        made(19, 60, (10, 1500), (1, 200), gap=2.0, shared=(300,)),
        pipeline_parallel_size=2,
    ),
    _one(
        "mla",
        300,
        made(20, 80, (10, 1500), (5, 200), gap=3.0, shared=_PREFIXES),
        model="deepseek-ai/DeepSeek-V2-Lite",
    ),
    _one(
        "sliding_only",
        1100,
        made(24, 40, (100, 12000), (5, 600), gap=10.0, shared=(300, 5000)),
        model="mistralai/Mistral-7B-v0.1",
        max_model_len=16384,
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
