"""Set-ups on offer, asked of vLLM's own code for GPUs that are not there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.vllm_python import CUDA, interpreter
from vllm_kv_planner import VLLMPlanner
from vllm_kv_planner.capacity.fit.candidates import shapes
from vllm_kv_planner.capacity.fit.constraints import Wanted
from vllm_kv_planner.capacity.fit.fit import fit
from vllm_kv_planner.capacity.fit.offer import changed
from vllm_kv_planner.engine_args.engine_args import EngineArgs

PYTHON = interpreter(CUDA)


@pytest.fixture(scope="module")
def planner() -> Iterator[VLLMPlanner]:
    with VLLMPlanner(python=PYTHON) as planner:
        yield planner


ASKED: list[tuple[str, dict[str, Any]]] = [
    ("meta-llama/Llama-3.1-8B-Instruct", {"gpu": "L4", "context": 32768, "concurrency": 20}),
    ("openai/gpt-oss-120b", {"gpu": "H100", "context": 32768, "concurrency": 30}),
    ("google/gemma-3-27b-it", {"gpu": "H100", "context": 16384, "concurrency": 10}),
    ("deepseek-ai/DeepSeek-V3", {"gpu": "H200", "context": 8192, "tensor_parallel_size": 8}),
    ("Qwen/Qwen3-Next-80B-A3B-Instruct", {"gpu": "H100", "context": 8192, "concurrency": 4}),
    ("Qwen/Qwen3-30B-A3B-FP8", {"gpu": "L4", "tensor_parallel_size": 16, "max_nodes": 2}),
]


@pytest.mark.parametrize(("model", "asked"), ASKED, ids=[model for model, _ in ASKED])
def test_vllm_takes_what_is_offered(
    planner: VLLMPlanner, model: str, asked: dict[str, Any]
) -> None:
    """At the pessimistic end: the memory that surely is there holds the requests asked for."""
    result = fit(model, kv_cache_dtype=("auto", "fp8"), **asked)
    assert result.offers
    for offer in result.offers[:2]:
        args = offer.request.args
        sure = offer.available_kv_cache_bytes - offer.uncertainty_bytes
        flags = {**dict(changed(args)), "kv_cache_memory_bytes": sure}
        plan = planner.plan(model, gpu=asked["gpu"], **flags)
        assert plan.fits
        assert plan.engine.max_num_seqs == offer.max_num_seqs
        assert plan.engine.max_num_batched_tokens == offer.max_num_batched_tokens
        each = sum(group.blocks_per_request for group in plan.kv_cache.groups)
        held = (plan.kv_cache.num_gpu_blocks - 1) // each * args.data_parallel_size
        assert held >= asked.get("concurrency", 1)
        if args.pipeline_parallel_size == 1:  # else every stage has a figure of its own
            assert held == offer.sure_requests


NODES = """
import json, sys
from vllm.config.parallel import ParallelConfig

for tp, pp, dp, nodes in json.load(sys.stdin):
    local = tp * pp * dp // nodes
    engines = max(local // (tp * pp), 1)  # as create_engine_config infers it
    for rank in range(nodes):
        config = ParallelConfig(
            tensor_parallel_size=tp,
            pipeline_parallel_size=pp,
            data_parallel_size=dp,
            data_parallel_size_local=engines,
            data_parallel_rank=rank * local // (tp * pp),
            nnodes=nodes,
            node_rank=rank,
            distributed_executor_backend="mp",
        )
        assert config.world_size % config.nnodes_within_dp == 0
        assert config.local_world_size * engines == local, (tp, pp, dp, nodes)
print("all of them")
"""


def test_vllm_takes_every_shape_of_several_machines() -> None:
    """Its multi-node launcher divides the ranks as the search does."""
    sizes = []
    for per_node in (4, 8):
        wanted = Wanted(gpu="H100", max_nodes=4, gpus_per_node=per_node)
        constraints = wanted.constraints(EngineArgs(model="any"))
        for num_gpus in constraints.counts:
            sizes += [
                (
                    shape.tensor_parallel_size,
                    shape.pipeline_parallel_size,
                    shape.data_parallel_size,
                    shape.num_nodes,
                )
                for shape in shapes(num_gpus, constraints, is_moe=False)
                if shape.num_nodes > 1
            ]
    assert len(sizes) > 100
    done = subprocess.run(
        [PYTHON, "-c", NODES],
        input=json.dumps(sizes),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("all of them\n")
