"""The ``vllm serve`` lines of set-ups: read back, they are the same engine."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kv_planner.capacity.fit.fit import fit
from vllm_kv_planner.capacity.fit.offer import node_lines, serve_line
from vllm_kv_planner.cli import main
from vllm_kv_planner.engine_args.engine_args import EngineArgs, EngineEnvironment
from vllm_kv_planner.engine_args.flag_table import flag_text
from vllm_kv_planner.engine_args.serve_command import parse_serve_command
from vllm_kv_planner.errors import UnsupportedError
from vllm_kv_planner.planner import plan_of
from vllm_kv_planner.planning.request import PlanRequest, plan_request

from .fit_cases import FLAGS

OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "enable_prefix_caching": st.booleans(),
        "enable_chunked_prefill": st.booleans(),
        "swa_bounded_replay": st.booleans(),
        "disable_hybrid_kv_cache_manager": st.booleans(),
        "limit_mm_per_prompt": st.just({"image": 2, "video": {"count": 0}}),
        "hf_overrides": st.just({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
        "compilation_config": st.just({"cudagraph_mode": "NONE"}),
        "kv_cache_dtype_skip_layers": st.just(("0", "sliding_window")),
        "cudagraph_capture_sizes": st.just((1, 2, 64)),
        "lora_target_modules": st.just(("q_proj", "v_proj")),
        "enable_lora": st.booleans(),
        "block_size": st.sampled_from([16, 64]),
        "cpu_offload_gb": st.sampled_from([1.5, 10.0]),
        "kv_cache_memory_bytes": st.sampled_from([1 << 30, 123_456_789]),
        "dtype": st.sampled_from(["float16", "bfloat16"]),
        "revision": st.just("a b'c"),
    },
)
NAMES = st.sampled_from(["gpt2", "org/name-1.5", "/a folder/with 'quotes'", "$HOME/model"])


@given(NAMES, FLAGS, OTHERS)
def test_what_is_written_is_read_back(
    model: str, flags: dict[str, Any], others: dict[str, Any]
) -> None:
    args = EngineArgs(model=model, **flags, **others)
    assert parse_serve_command(serve_line(args)).engine_args == args
    if "$" not in serve_line(args):  # as a word of its own it is a variable nobody filled in
        assert parse_serve_command(shlex.split(serve_line(args))).engine_args == args


@given(
    st.booleans(),
    st.sampled_from([None, True, False]),
    st.booleans(),
    st.sampled_from([None, "7,8,8,7"]),
    st.booleans(),
    st.booleans(),
)
def test_variables_are_read_back(
    long: bool, v2: bool | None, mla: bool, layers: str | None, chunked: bool, graphs: bool
) -> None:
    environment = EngineEnvironment(
        allow_long_max_model_len=long,
        use_v2_model_runner=v2,
        mla_disable=mla,
        pp_layer_partition=layers,
        allow_chunked_local_attn_with_hybrid_kv_cache=chunked,
        estimate_cudagraphs=graphs,
    )
    line = serve_line(EngineArgs(model="gpt2"), environment)
    assert parse_serve_command(line).environment == environment


def test_lines_by_hand() -> None:
    args = EngineArgs(model="a/b", max_model_len=32768, tensor_parallel_size=2)
    assert serve_line(args) == "vllm serve a/b --max-model-len 32768 --tensor-parallel-size 2"
    assert flag_text("enable_prefix_caching", False) == "--no-enable-prefix-caching"
    assert (
        flag_text("limit_mm_per_prompt", {"image": 0}) == """--limit-mm-per-prompt '{"image": 0}'"""
    )
    assert flag_text("kv_cache_dtype_skip_layers", ("0", "1")) == "--kv-cache-dtype-skip-layers 0 1"


SHAPES: list[tuple[dict[str, int], int, list[str]]] = [
    ({"tensor_parallel_size": 8}, 1, [""]),
    (
        {"tensor_parallel_size": 8, "pipeline_parallel_size": 2},
        2,
        ["--distributed-executor-backend ray"],
    ),
    (
        {"tensor_parallel_size": 4, "data_parallel_size": 4},
        2,
        ["--data-parallel-backend ray --data-parallel-size-local 2"],
    ),
    (
        {"tensor_parallel_size": 8, "pipeline_parallel_size": 2, "data_parallel_size": 2},
        4,
        ["--data-parallel-backend ray"],
    ),
]


@pytest.mark.parametrize(("sizes", "nodes", "ends"), SHAPES)
def test_lines_of_several_machines(sizes: dict[str, int], nodes: int, ends: list[str]) -> None:
    args = EngineArgs(model="a/b", **sizes)
    (ray,) = node_lines(args, num_nodes=nodes, launcher="ray")
    assert ray.endswith(ends[0])
    over_several = args.world_size > args.num_gpus // nodes and args.data_parallel_size > 1
    assert ray.startswith("VLLM_RAY_DP_PACK_STRATEGY=span ") == over_several
    lines = node_lines(args, num_nodes=nodes, launcher="mp")
    assert len(lines) == nodes
    for number, line in enumerate([*lines, ray]):
        read = parse_serve_command(line).engine_args
        assert read.num_gpus == args.num_gpus
        assert (f"--node-rank {number}" in line) == (nodes > 1 and number < nodes)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(
        [
            "meta-llama/Llama-3.1-8B-Instruct",
            "Qwen/Qwen3-30B-A3B",
            "openai/gpt-oss-20b",
            "google/gemma-3-27b-it",
        ]
    ),
    st.sampled_from(["L4", "H100", "A100-40GB"]),
    st.integers(1, 80),
    st.sampled_from([("auto",), ("fp8",)]),
)
def test_every_offer_through_its_own_command(
    model: str, gpu: str, concurrency: int, dtypes: tuple[str, ...]
) -> None:
    try:
        result = fit(
            model,
            gpu=gpu,
            context=8192,
            concurrency=concurrency,
            kv_cache_dtype=dtypes,
            max_nodes=2,
            gpus_per_node=4,
            more_gpus=True,
        )
    except UnsupportedError as refusal:
        # an fp8 cache with attention sinks, or Gemma's images, needs more than an A100
        assert (gpu, dtypes) == ("A100-40GB", ("fp8",)), refusal
        return
    for offer in result.offers:
        for line in offer.node_commands:
            command = parse_serve_command(line)
            again = plan_of(
                PlanRequest(
                    found=offer.request.found,
                    args=command.engine_args,
                    gpu=gpu,
                    planner="standalone",
                    environment=command.environment,
                )
            )
            plan = offer.plan()
            assert again.kv_cache == plan.kv_cache
            assert again.memory == plan.memory
            assert again.engine == plan.engine
            assert again.fits


def test_an_offer_through_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    result = fit("Qwen/Qwen3-30B-A3B", gpu="L4", context=8192, concurrency=8)
    assert result.best is not None
    code = main(["plan", "--gpu", "L4", "--format", "csv", "--", *shlex.split(result.best.command)])
    assert code == 0
    printed = capsys.readouterr().out
    assert str(result.best.available_kv_cache_bytes) in printed


def test_the_environment_is_part_of_the_command() -> None:
    request = plan_request("gpt2", gpu="L4")
    environment = EngineEnvironment(use_v2_model_runner=False)
    line = serve_line(request.args, environment)
    assert line.startswith("VLLM_USE_V2_MODEL_RUNNER=0 vllm serve ")
