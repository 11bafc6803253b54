"""A plan made before launch equals what a real engine reports: vLLM's CPU build, tiny models."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vllm_python import CPU, interpreter
from vllm_kv_planner import InputError, Plan, VLLMPlanner

PYTHON = interpreter(CPU)
MIB = 1 << 20

SMALL = {
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 1024,
}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {"n_embd": 128, "n_layer": 3, "n_head": 4, "vocab_size": 512, "n_positions": 1024},
    ),
    "llama": ("LlamaConfig", "LlamaForCausalLM", SMALL),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {**SMALL, "head_dim": 64}),
    "gemma3": (  # layers 5 and 11 are full, the others slide
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {**SMALL, "num_hidden_layers": 14, "head_dim": 32, "sliding_window": 128},
    ),
    "mla": (
        "DeepseekV2Config",
        "DeepseekV2ForCausalLM",
        {
            **SMALL,
            "q_lora_rank": None,
            "kv_lora_rank": 512,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "v_head_dim": 128,
            "first_k_dense_replace": 3,
            "n_routed_experts": 2,
            "n_shared_experts": 1,
            "moe_intermediate_size": 32,
            "num_experts_per_tok": 1,
        },
    ),
    "delta_net": (  # three layers of gated delta net to one of attention
        "Qwen3NextConfig",
        "Qwen3NextForCausalLM",
        {
            **SMALL,
            "num_hidden_layers": 4,
            "head_dim": 32,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 32,
        },
    ),
}


def case(model: str, memory_mib: int, **arguments: Any) -> dict[str, Any]:
    config_class, model_class, values = MODELS[model]
    return {
        "model": model,
        "config": {"config_class": config_class, "model_class": model_class, "values": values},
        "arguments": {"kv_cache_memory_bytes": memory_mib * MIB, **arguments},
    }


CASES = [
    case("gpt2", 64),
    case("gpt2", 33, block_size=32, max_model_len=100),
    case("llama", 64, max_model_len=512),
    case("llama", 47, block_size=64, max_model_len=77),
    case("llama", 1, max_model_len=-1),
    case("llama", 16, num_gpu_blocks_override=37),
    case("qwen3", 100, max_model_len=1000, max_num_seqs=4),
    case("gemma3", 64, max_model_len=1024, max_num_batched_tokens=256),
    case("gemma3", 64, max_model_len=600, disable_hybrid_kv_cache_manager=True),
    case("mla", 32, max_model_len=512),
    case("delta_net", 96, max_model_len=512),
    case("delta_net", 96, max_model_len=1024, enable_prefix_caching=True),
]


def name(case: dict[str, Any]) -> str:
    arguments = {k: v for k, v in case["arguments"].items() if k != "kv_cache_memory_bytes"}
    return "-".join([case["model"], *(f"{key}={value}" for key, value in arguments.items())])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def engines(folder: Path) -> dict[str, dict[str, Any]]:
    """What the real engines report, by case."""
    done = subprocess.run(
        [PYTHON, str(Path(__file__).with_name("vllm_cpu_engines.py")), str(folder)],
        input="".join(json.dumps(case) + "\n" for case in CASES),
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"},
        timeout=1800,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(CASES), done.stderr[-3000:]
    return {name(case): answer for case, answer in zip(CASES, answers, strict=True)}


@pytest.fixture(scope="module")
def planner() -> Iterator[VLLMPlanner]:
    with VLLMPlanner(python=PYTHON) as planner:
        yield planner


def planned(planner: VLLMPlanner, folder: Path, case: dict[str, Any]) -> Plan:
    return planner.plan(
        str(folder / case["model"]), gpu="cpu", usage_context="llm", **case["arguments"]
    )


@pytest.mark.parametrize("case", CASES, ids=name)
def test_plan_equals_the_engine(
    engines: dict[str, dict[str, Any]], planner: VLLMPlanner, folder: Path, case: dict[str, Any]
) -> None:
    engine = engines[name(case)]
    assert "error" not in engine, engine
    plan = planned(planner, folder, case)
    assert plan.kv_cache.num_gpu_blocks == engine["num_gpu_blocks"]
    assert plan.kv_cache.kv_cache_size_tokens == engine["kv_cache_size_tokens"]
    assert plan.kv_cache.max_concurrency == engine["kv_cache_max_concurrency"]
    assert plan.engine.max_model_len == engine["max_model_len"]
    assert plan.fits
    assert engine["generated"] == 2


def test_the_refused_engine_is_a_plan_that_does_not_fit(
    engines: dict[str, dict[str, Any]], planner: VLLMPlanner, folder: Path
) -> None:
    # 1 MiB is 21 blocks of 49,152 bytes; one is the null block, so 20 x 128 tokens are left
    plan = planned(planner, folder, case("llama", 1, max_model_len=1024, block_size=128))
    assert plan.fits
    plan = planner.plan(
        str(folder / "llama"), gpu="cpu", kv_cache_memory_bytes=4 * 98304, max_model_len=1024
    )
    assert not plan.fits
    assert plan.kv_cache.max_model_len_that_fits == 3 * 128
    assert "estimated maximum model length is 384" in " ".join(plan.notes)


def test_vllms_own_reason_on_one_line(
    engines: dict[str, dict[str, Any]], planner: VLLMPlanner, folder: Path
) -> None:
    with pytest.raises(InputError, match="No common block size for 16") as refused:
        planner.plan(str(folder / "llama"), gpu="cpu", kv_cache_memory_bytes=MIB, block_size=16)
    assert "\n" not in str(refused.value)


def test_plan_engine_reads_live_objects_and_the_example_agrees(
    engines: dict[str, dict[str, Any]], folder: Path
) -> None:
    """plan_engine in the very process that starts the engine, whose own core is a process."""
    example = Path(__file__).parents[1] / "examples" / "plan_then_launch.py"
    done = subprocess.run(
        [PYTHON, str(example), "--model", str(folder / "llama"), "--max-model-len", "512"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(example.parents[1]),
            "VLLM_CPU_KVCACHE_SPACE": "1",
        },
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("  ")]
    figures = {row[0]: (row[-2], row[-1]) for row in rows if len(row) >= 3}
    assert set(figures) >= {"num_gpu_blocks", "kv_cache_size_tokens", "max_concurrency"}
    assert all(predicted == actual for predicted, actual in figures.values()), done.stdout
    # llama: 3 layers x 2 heads x 32 wide x 2 (K, V) x 2 bytes = 768 bytes a token
    assert int(figures["num_gpu_blocks"][0].replace(",", "")) == (1 << 30) // (768 * 128)
    generated = done.stdout.split("generated tokens: ")[1].splitlines()[0]  # its log goes on
    assert 1 <= len(json.loads(generated)) <= 8


def test_every_kind_of_object_gives_the_same_plan(
    engines: dict[str, dict[str, Any]], folder: Path
) -> None:
    script = f"""
import sys
from vllm import EngineArgs, AsyncEngineArgs
import vllm_kv_planner as kv
given = dict(model={str(folder / "qwen3")!r}, kv_cache_memory_bytes={50 * MIB},
             max_model_len=300, skip_tokenizer_init=True)
with kv.VLLMPlanner() as planner:
    plans = [kv.plan_engine(planner=planner, **given),
             kv.plan_engine(EngineArgs(**given), planner=planner),
             kv.plan_engine(AsyncEngineArgs(**given), planner=planner),
             kv.plan_engine(EngineArgs(**given).create_engine_config(), planner=planner)]
    try:
        kv.plan_engine(EngineArgs(**given).create_engine_config(), gpu="H100", planner=planner)
    except kv.UnsupportedError as error:
        print(error)
print([plan.kv_cache == plans[0].kv_cache for plan in plans], plans[0].planner.name)
"""
    done = subprocess.run(
        [PYTHON, "-c", script],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(Path(__file__).parents[1]),
        },
        timeout=900,
        check=False,
    )
    assert "[True, True, True, True] vllm" in done.stdout, done.stderr[-3000:]
    assert "resolved for cpu" in done.stdout
