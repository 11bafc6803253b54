"""AMD GPUs: vLLM's own answers, and what is refused by name.

The values are those of vLLM 0.33's planning code on its ROCm platform, AITER installed, with
40 GiB of KV memory (``--planner vllm --gpu MI300X``).
"""

import json

import pytest

import vllm_kv_planner as planner
from vllm_kv_planner.errors import InputError, UnsupportedError
from vllm_kv_planner.memory.versions import VersionRules

GIB = 1 << 30

# model, flags, backends, block size of the engine, blocks
ANSWERS = [
    ("Qwen/Qwen3-8B", {}, "ROCM_ATTN", 16, 18_204),
    ("openai/gpt-oss-20b", {}, "ROCM_AITER_UNIFIED_ATTN", 64, 27_306),
    ("deepseek-ai/DeepSeek-V2-Lite", {}, "TRITON_MLA", 16, 86_302),
    ("google/gemma-3-4b-it", {}, "TRITON_ATTN", 16, 131_072),
    ("deepseek-ai/DeepSeek-V3.2", {}, "DEEPSEEK_V32_INDEXER, ROCM_AITER_MLA_SPARSE", 16, 34_272),
    ("Qwen/Qwen3-Next-80B-A3B-Instruct", {}, "ROCM_ATTN", 544, 3_212),
    ("openai/whisper-tiny", {}, "ROCM_AITER_UNIFIED_ATTN", 16, 436_906),
]


@pytest.mark.parametrize(("model", "flags", "backends", "block_size", "blocks"), ANSWERS)
def test_an_mi300x_is_planned_as_vllm_plans_it(model, flags, backends, block_size, blocks):
    plan = planner.plan(
        model, gpu="MI300X", planner="standalone", kv_cache_memory_bytes=40 * GIB, **flags
    )
    assert plan.engine.attention_backend == backends
    assert plan.engine.block_size == block_size
    assert plan.kv_cache.num_gpu_blocks == blocks
    # 192 GB are beyond the 160 GiB from which vLLM takes its largest batch
    assert plan.engine.max_num_batched_tokens == 16_384


@pytest.mark.parametrize("gpu", ["MI250X", "R9700"])
def test_aiter_is_for_cdna_3_and_4_only(gpu):
    plan = planner.plan("openai/gpt-oss-20b", gpu=gpu, kv_cache_memory_bytes=4 * GIB)
    assert plan.engine.attention_backend == "TRITON_ATTN"
    assert plan.engine.block_size == 16


def test_encoder_decoders_run_eagerly():
    plan = planner.plan("openai/whisper-tiny", gpu="MI300X", kv_cache_memory_bytes=GIB)
    assert plan.engine.enforce_eager


def test_memory_is_predicted():
    plan = planner.plan("meta-llama/Llama-3.1-8B-Instruct", gpu="MI300X", max_model_len=8192)
    assert plan.fits
    assert plan.memory.requested_bytes == -int(-0.92 * plan.gpu.total_memory_bytes // 1)
    assert 155 * GIB < plan.memory.available_kv_cache_bytes < 162 * GIB


@pytest.mark.parametrize(
    ("model", "flags", "said"),
    [
        ("deepseek-ai/DeepSeek-V4-Flash", {}, "--planner vllm can answer"),
        ("Qwen/Qwen3-8B", {"attention_backend": "FLASHINFER"}, "ROCM_ATTN"),
        ("Qwen/Qwen3-8B", {"kv_transfer_config": {"kv_connector": "NixlConnector"}}, "AMD"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(model, flags, said):
    with pytest.raises(UnsupportedError, match=said):
        planner.plan(
            model, gpu="MI300X", planner="standalone", kv_cache_memory_bytes=40 * GIB, **flags
        )


def test_quantisation_that_vllm_refuses_there():
    with pytest.raises(InputError, match="experts_int8 quantization is currently not supported"):
        planner.plan(
            "Qwen/Qwen3-8B",
            gpu="MI300X",
            quantization="experts_int8",
            kv_cache_memory_bytes=40 * GIB,
        )


def test_aiter_switched_on_is_refused(monkeypatch, capsys):
    from vllm_kv_planner.cli import main

    monkeypatch.setenv("VLLM_ROCM_USE_AITER", "1")
    arguments = ["plan", "Qwen/Qwen3-8B", "--gpu", "MI300X", "--planner", "standalone"]
    assert main([*arguments, "--kv-cache-memory-bytes", "40G"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "VLLM_ROCM_USE_AITER=1" in captured.err


def test_json_names_the_device(capsys):
    from vllm_kv_planner.cli import main

    assert main(["plan", "gpt2", "--gpu", "mi325x", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["gpu"]["name"] == "AMD Instinct MI325X"


def test_graphs_are_profiled_since_different_versions() -> None:
    """``determine_available_memory``: not AMD's before 0.26, not Intel's before 0.31."""
    first = {"cuda": (0, 20), "rocm": (0, 26), "xpu": (0, 31)}
    for platform, version in first.items():
        before = (version[0], version[1] - 1)
        assert VersionRules(version).deducts_graphs(False, platform)
        assert not VersionRules(before).deducts_graphs(False, platform)
    assert not VersionRules((0, 28)).deducts_graphs(True, "rocm")
    assert VersionRules((0, 29)).deducts_graphs(True, "rocm")
    assert not VersionRules((0, 30)).deducts_graphs(True, "xpu")
