"""vLLM 0.33 itself, planning for GPUs that are not there: equal to the stand-alone planner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vllm_kv_planner
from tests.vllm_python import CUDA, interpreter
from vllm_kv_planner import InputError, Plan, VLLMPlanner
from vllm_kv_planner.planning.types import KVCacheInfo

PYTHON = interpreter(CUDA)
GIB = 1 << 30
ROOT = Path(__file__).parents[1]
MODELS = (
    "gpt2",
    "meta-llama/Llama-3.1-8B",
    "google/gemma-3-27b-it",
    "openai/gpt-oss-20b",
    "deepseek-ai/DeepSeek-V3",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
)
SETTINGS = (
    "dtype",
    "kv_cache_dtype",
    "block_size",
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "enable_prefix_caching",
    "quantization",
)


@pytest.fixture(scope="module")
def planner() -> Iterator[VLLMPlanner]:
    with VLLMPlanner(python=PYTHON) as planner:
        yield planner


def unordered(cache: KVCacheInfo) -> KVCacheInfo:
    return replace(cache, groups=tuple(sorted(cache.groups, key=repr)))


def both(planner: VLLMPlanner, model: str, **arguments: Any) -> tuple[Plan, Plan]:
    standalone = vllm_kv_planner.plan(model, planner="standalone", **arguments)
    return planner.plan(model, **arguments), standalone


@pytest.mark.parametrize(
    ("flags", "starts"),
    [({}, False), ({"enforce_eager": True}, True), ({"max_num_seqs": 238}, True)],
)
def test_every_sequence_needs_a_state(
    planner: VLLMPlanner, flags: dict[str, Any], starts: bool
) -> None:
    """238 blocks, 1,024 sequences: vLLM's own ``resolve_cudagraph_mode_and_sizes`` refuses."""
    memory = {"max_model_len": 8192, "kv_cache_memory_bytes": 13_000_000_000}
    theirs, ours = both(planner, "Qwen/Qwen3.5-27B", gpu="H100", **memory, **flags)
    assert theirs.kv_cache.num_gpu_blocks == 238
    assert theirs.fits is ours.fits is starts
    if not starts:
        assert "exceeds available Mamba cache blocks (238)" in theirs.limits[0]


@pytest.mark.parametrize("tp", (1, 8))
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("gpu", ("H100", "L4", "B200"))
def test_both_planners_agree(planner: VLLMPlanner, gpu: str, model: str, tp: int) -> None:
    if model == "gpt2" and tp == 8:
        with pytest.raises(InputError, match="divisible by tensor parallel size"):
            planner.plan(model, gpu=gpu, tensor_parallel_size=8, kv_cache_memory_bytes=GIB)
        return
    theirs, ours = both(
        planner,
        model,
        gpu=gpu,
        tensor_parallel_size=tp,
        kv_cache_memory_bytes=40 * GIB,
        max_model_len=None if model == "gpt2" else 8192,
    )
    assert unordered(theirs.kv_cache) == unordered(ours.kv_cache)
    assert theirs.gpu == ours.gpu
    for name in SETTINGS:
        assert getattr(theirs.engine, name) == getattr(ours.engine, name), name


def test_both_planners_agree_on_amd(planner: VLLMPlanner) -> None:
    """Every kind of attention: vLLM's ROCm platform from the wheel for CUDA."""
    for model in (*MODELS[1:], "deepseek-ai/DeepSeek-V3.2", "openai/whisper-tiny"):
        theirs, ours = both(planner, model, gpu="MI300X", kv_cache_memory_bytes=40 * GIB)
        assert unordered(theirs.kv_cache) == unordered(ours.kv_cache), model
        for name in SETTINGS:
            assert getattr(theirs.engine, name) == getattr(ours.engine, name), (model, name)


def test_fixed_figures(planner: VLLMPlanner) -> None:
    """By hand: 61 layers x 576 elements x 2 bytes; 32 layers x 8 heads x 128 x 2 x 2 bytes."""
    deepseek = planner.plan(
        "deepseek-ai/DeepSeek-V3",
        gpu="H100",
        tensor_parallel_size=8,
        kv_cache_memory_bytes=40 * GIB,
    )
    assert deepseek.kv_cache.bytes_per_token == 70_272
    assert deepseek.memory.weights_bytes is not None
    assert round(deepseek.memory.weights_bytes / GIB, 2) == 79.31
    assert deepseek.gpu.num_gpus == 8
    llama = planner.plan("meta-llama/Llama-3.1-8B", gpu="H100", kv_cache_memory_bytes=40 * GIB)
    assert llama.kv_cache.bytes_per_token == 131_072
    assert llama.kv_cache.num_gpu_blocks == 20_480  # 40 GiB / (131,072 x 16)
    assert llama.memory.weights_bytes is not None
    # engines print 14.9889 GiB
    assert abs(llama.memory.weights_bytes / GIB - 14.9889) < 0.0002


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("meta-llama/Llama-3.1-8B", {"pipeline_parallel_size": 3}),
        ("meta-llama/Llama-3.1-8B", {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}),
        (
            "deepseek-ai/DeepSeek-V3",
            {"data_parallel_size": 8, "enable_expert_parallel": True},
        ),
        (
            "deepseek-ai/DeepSeek-V3",
            {"tensor_parallel_size": 8, "decode_context_parallel_size": 8},
        ),
        ("meta-llama/Llama-3.1-8B", {"kv_cache_dtype": "fp8"}),
        ("meta-llama/Llama-3.1-8B", {"num_gpu_blocks_override": 100, "max_model_len": 1000}),
        ("google/gemma-3-27b-it", {"disable_hybrid_kv_cache_manager": True}),
    ],
    ids=str,
)
def test_ways_to_run_agree(planner: VLLMPlanner, model: str, arguments: dict[str, Any]) -> None:
    arguments = {"max_model_len": 8192, "kv_cache_memory_bytes": 40 * GIB, **arguments}
    theirs, ours = both(planner, model, gpu="H100", **arguments)
    assert unordered(theirs.kv_cache) == unordered(ours.kv_cache)
    assert theirs.gpu.num_gpus == ours.gpu.num_gpus
    assert theirs.engine.speculative == ours.engine.speculative


def test_a_multi_token_prediction_layer_joins(planner: VLLMPlanner) -> None:
    """DeepSeek-V3 keeps its 62nd layer for drafts."""
    plan = planner.plan(
        "deepseek-ai/DeepSeek-V3",
        gpu="H100",
        tensor_parallel_size=16,
        max_model_len=8192,
        kv_cache_memory_bytes=40 * GIB,
        speculative_config={"method": "mtp", "num_speculative_tokens": 1},
    )
    assert sum(group.num_layers for group in plan.kv_cache.groups) == 62
    assert plan.engine.speculative == "mtp"


def test_a_draft_model_joins(planner: VLLMPlanner, tmp_path: Path) -> None:
    """EAGLE3 on Llama-3.1-8B: one more layer, 33 in all."""
    draft = {
        "architectures": ["LlamaForCausalLMEagle3"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 1,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "draft_vocab_size": 32000,
        "max_position_embeddings": 2048,
        "torch_dtype": "float16",
        "rms_norm_eps": 1e-05,
    }
    folder = tmp_path / "EAGLE3-LLaMA3.1"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(draft))
    plan = planner.plan(
        "meta-llama/Llama-3.1-8B",
        gpu="H100",
        max_model_len=2048,
        kv_cache_memory_bytes=8 * GIB,
        speculative_config={"method": "eagle3", "model": str(folder), "num_speculative_tokens": 3},
    )
    assert sum(group.num_layers for group in plan.kv_cache.groups) == 33
    assert plan.engine.speculative == "eagle3"


def test_what_does_not_fit_is_a_plan(planner: VLLMPlanner) -> None:
    theirs, ours = both(planner, "meta-llama/Llama-3.1-8B", gpu="H100", kv_cache_memory_bytes=GIB)
    assert not theirs.fits
    assert theirs.kv_cache == ours.kv_cache
    assert theirs.kv_cache.max_model_len_that_fits == 511 * 16  # 512 blocks, less the null block
    assert any("16.0 GiB KV cache is needed" in note for note in theirs.notes)
    fitted, restated = both(
        planner,
        "meta-llama/Llama-3.1-8B",
        gpu="H100",
        kv_cache_memory_bytes=GIB,
        max_model_len=-1,
    )
    assert fitted.engine.max_model_len == restated.engine.max_model_len == 511 * 16
    assert fitted.fits


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"tensor_parallel_size": 7}, "(32) must be divisible by tensor parallel size (7)"),
        ({"max_model_len": 1 << 20}, "greater than the derived max_model_len"),
        ({"kv_cache_dtype": "fp8_ds_mla"}, "fp8_ds_mla"),
        ({"block_size": 7}, "7"),
    ],
    ids=str,
)
def test_vllms_own_reason(planner: VLLMPlanner, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError) as refused:
        planner.plan(
            "meta-llama/Llama-3.1-8B", gpu="H100", kv_cache_memory_bytes=8 * GIB, **arguments
        )
    assert str(refused.value).startswith("vLLM 0.33.0 refuses: ")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vllm_kv_planner", "plan", *words],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "KV_PLANNER_PYTHON": PYTHON,
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "TMPDIR": str(folder),
        },
        timeout=900,
        check=False,
    )


def test_the_command_line_leaves_nothing_behind(tmp_path: Path) -> None:
    done = command(
        tmp_path,
        *("deepseek-ai/DeepSeek-V3", "--planner", "vllm", "--gpu", "H200", "--format", "json"),
        *("--tensor-parallel-size", "8", "--kv-cache-memory-bytes", "40G"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # progress is for terminals
    plan = json.loads(done.stdout)
    assert plan["planner"]["name"] == "vllm"
    assert plan["planner"]["vllm_version"] == "0.33.0"
    assert plan["kv_cache"]["bytes_per_token"] == 70_272
    assert plan["gpu"]["num_gpus"] == 8
    assert list(tmp_path.iterdir()) == []


def test_elsewhere_vllm_does_not_notice_the_plugin(tmp_path: Path) -> None:
    info = tmp_path / "vllm_kv_planner-9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-kv-planner\nVersion: 9\n")
    (info / "entry_points.txt").write_text(
        "[vllm.platform_plugins]\nvllm_kv_planner = vllm_kv_planner.vllm_adapter.plugin:platform\n"
    )
    code = "import vllm.platforms as p; print(type(p.current_platform).__name__)"
    done = subprocess.run(
        [PYTHON, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        timeout=900,
        check=True,
    )
    assert "AbsentGPU" not in done.stdout
