"""``--vllm-version``: blocks as older engines printed them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vllm_kv_planner import UnsupportedError, plan
from vllm_kv_planner.errors import InputError
from vllm_kv_planner.version import VLLM_VERSION

GIB = 1 << 30


def test_gated_delta_blocks_have_no_grid_before_0_33() -> None:
    """A published start of Qwen3.6-35B-A3B-NVFP4 on 0.24: 299 blocks of 2,096 tokens, 4.33x."""
    flags = {
        "gpu": "RTX 5090",
        "max_model_len": 131072,
        "kv_cache_dtype": "fp8",
        "enable_prefix_caching": True,
        "max_num_seqs": 1,
        "kv_cache_memory_bytes": 6_421_000_000,
    }
    model = "nvidia/Qwen3.6-35B-A3B-NVFP4"
    old = plan(model, vllm_version="0.24", **flags)
    assert (old.kv_cache.num_gpu_blocks, old.engine.block_size) == (299, 2096)
    assert old.kv_cache.max_concurrency == pytest.approx(4.33, abs=0.005)
    states = [group.blocks_per_request for group in old.kv_cache.groups if group.kind == "mamba"]
    assert set(states) == {2}
    new = plan(model, **flags)
    assert new.engine.block_size % 64 == 0
    assert {g.blocks_per_request for g in new.kv_cache.groups if g.kind == "mamba"} == {3}


@pytest.mark.parametrize(
    ("model", "before", "since"),
    [
        ("moonshotai/Kimi-K3", "0.28", "0.29"),
        ("zai-org/GLM-5.3-Flash", "0.31", "0.32"),
        ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "0.31", "0.32"),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", "0.32", "0.33"),
    ],
)
def test_states_that_a_prefill_exports_are_a_block_more(
    model: str, before: str, since: str
) -> None:
    flags: dict[str, Any] = {
        "tensor_parallel_size": 8,
        "max_model_len": 65536,
        "max_num_seqs": 16,
        "enable_prefix_caching": True,
        "kv_cache_memory_bytes": 30 * GIB,
    }
    for version, states in ((before, 2), (since, 3)):
        groups = plan(model, gpu="H100", vllm_version=version, **flags).kv_cache.groups
        assert {g.blocks_per_request for g in groups if g.kind == "mamba"} == {states}


@pytest.mark.parametrize(
    ("model", "last", "first"),
    [
        ("zai-org/GLM-5.3-Flash", "0.29", "0.30"),
        ("ai21labs/AI21-Jamba-1.5-Mini", "0.25", "0.26"),
        ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "0.18", "0.19"),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", "0.16", "0.17"),
    ],
)
def test_states_that_nobody_compared_are_refused_by_name(model: str, last: str, first: str) -> None:
    flags: dict[str, Any] = {"gpu": "B200", "tensor_parallel_size": 8, "max_num_seqs": 16}
    with pytest.raises(UnsupportedError, match=rf"in vLLM {last} .* --vllm-version {first}"):
        plan(model, vllm_version=last, kv_cache_memory_bytes=40 * GIB, **flags)
    assert plan(model, vllm_version=first, kv_cache_memory_bytes=40 * GIB, **flags).fits


def test_a_state_for_every_block_is_refused_before_0_28() -> None:
    flags: dict[str, Any] = {"gpu": "H100", "max_model_len": 8192, "max_num_seqs": 16}
    model = "nvidia/NVIDIA-Nemotron-Nano-9B-v2"
    with pytest.raises(UnsupportedError, match=r"0\.27 keeps a state of NemotronHForC"):
        plan(model, vllm_version="0.27", enable_prefix_caching=True, **flags)
    assert plan(model, vllm_version="0.28", enable_prefix_caching=True, **flags).fits
    assert plan(model, vllm_version="0.27", **flags).fits


@pytest.mark.parametrize(("gib", "tokens"), [((5.175, 5.185), 134_144), ((1.755, 1.765), 44_016)])
def test_qwen3_5_on_0_17_1(gib: tuple[float, float], tokens: int) -> None:
    """Two published starts on RTX 5090; the log's memory is rounded to a hundredth of a GiB."""
    least, most = (
        plan(
            "Qwen/Qwen3.5-35B-A3B",
            gpu="RTX 5090",
            vllm_version="0.17.1",
            max_model_len=16384,
            kv_cache_dtype="fp8",
            enable_prefix_caching=True,
            kv_cache_memory_bytes=int(size * GIB),
        ).kv_cache.kv_cache_size_tokens
        for size in gib
    )
    assert least is not None and most is not None and least <= tokens <= most


@pytest.mark.parametrize(
    ("version", "tokens"), [("0.20.0", 40_016), ("0.20.1", 285_741), ("0.20.2", 285_741)]
)
def test_the_log_counts_tokens_by_concurrency_from_0_20_1(version: str, tokens: int) -> None:
    """A published start of 0.20.2 on RTX 5090 printed 286,007 tokens for 4.58 GiB."""
    answer = plan(
        "nvidia/Gemma-4-26B-A4B-NVFP4",
        gpu="RTX 5090",
        vllm_version=version,
        max_model_len=256_000,
        kv_cache_dtype="fp8_e4m3",
        max_num_batched_tokens=16384,
        max_num_seqs=2,
        kv_cache_memory_bytes=4_917_737_881,
    )
    assert answer.kv_cache.kv_cache_size_tokens == tokens


@pytest.mark.parametrize(("version", "word"), [("0.19.0", "fits"), ("0.20.0", "does_not_fit")])
def test_fewer_states_than_sequences_are_refused_from_0_20(version: str, word: str) -> None:
    """A published start of 0.19.0 on A100 ran with 3.74 GiB, 48,576 tokens and 256 sequences."""
    answer = plan(
        "Qwen/Qwen3.5-35B-A3B",
        gpu="A100-SXM-80GB",
        vllm_version=version,
        max_model_len=16384,
        kv_cache_memory_bytes=4_015_794_422,
    )
    assert answer.verdict == word
    if word == "fits":
        assert answer.kv_cache.kv_cache_size_tokens == 48_576


def test_nemotron_super_on_0_19_with_a_draft() -> None:
    """A published start on GB10 printed 1,399,712 tokens and 27.81x for 36.25 GiB."""
    answer = plan(
        "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4",
        gpu="GB10",
        vllm_version="0.19.2",
        max_model_len=131072,
        kv_cache_dtype="fp8",
        enable_prefix_caching=False,
        mamba_ssm_cache_dtype="float32",
        max_num_seqs=20,
        speculative_config={"method": "mtp", "num_speculative_tokens": 3},
        kv_cache_memory_bytes=int(36.25 * GIB),
    )
    assert answer.kv_cache.kv_cache_size_tokens == 1_399_712
    assert answer.kv_cache.max_concurrency == pytest.approx(27.81, abs=0.005)


def test_glm_5_2_keeps_an_index_in_every_layer_before_0_24() -> None:
    flags: dict[str, Any] = {"gpu": "H200", "tensor_parallel_size": 8, "max_model_len": 8192}
    flags["kv_cache_memory_bytes"] = 40 * GIB
    old, new = (plan("zai-org/GLM-5.2-FP8", vllm_version=v, **flags) for v in ("0.23", "0.24"))
    layers = [sum(g.num_layers for g in each.kv_cache.groups) for each in (old, new)]
    assert layers[0] == 2 * old.model.num_layers > layers[1]
    assert old.kv_cache.bytes_per_block > new.kv_cache.bytes_per_block


@pytest.mark.parametrize(
    ("gpu", "version", "step", "requests"),
    [
        *[("B200", "0.27", 8192, 1024), ("B200", "0.28", 16384, 1024)],
        *[("GB10", "0.13", 2048, 256), ("GB10", "0.32", 2048, 256), ("GB10", "0.33", 2048, 256)],
    ],
)
def test_a_step_by_default(gpu: str, version: str, step: int, requests: int) -> None:
    engine = plan("Qwen/Qwen3-8B", gpu=gpu, vllm_version=version).engine
    assert (engine.max_num_batched_tokens, engine.max_num_seqs) == (step, requests)


def test_a_kv_connector_turned_the_hybrid_manager_off_before_0_22() -> None:
    flags: dict[str, Any] = {
        "kv_transfer_config": {"kv_connector": "NixlConnector", "kv_role": "kv_both"},
        "kv_cache_memory_bytes": 20 * GIB,
    }
    old, new = (
        plan("google/gemma-3-27b-it", gpu="H100", vllm_version=v, **flags) for v in ("0.21", "0.22")
    )
    assert len(old.kv_cache.groups) == 1 < len(new.kv_cache.groups)
    assert any("NixlConnector turns the hybrid" in note for note in old.notes)


@pytest.mark.parametrize(("version", "times"), [("0.12", 8), ("0.20", 8)])
def test_tokens_count_all_ranks_that_share_a_sequence(version: str, times: int) -> None:
    """Before 0.21 the log counted blocks x block size, of every decode-context-parallel rank."""
    answer = plan(
        "moonshotai/Kimi-K2-Thinking",
        gpu="H200",
        vllm_version=version,
        tensor_parallel_size=8,
        decode_context_parallel_size=times,
        kv_cache_memory_bytes=40 * GIB,
    )
    cache = answer.kv_cache
    assert cache.kv_cache_size_tokens == cache.num_gpu_blocks * answer.engine.block_size * times


@pytest.mark.parametrize(
    ("version", "gpu", "words"),
    [
        ("0.28", "RTX 5090", "a later start, which finds the compiled model in vLLM's cache"),
        ("0.11", "A100", "an image with FlashInfer installed"),
    ],
)
def test_a_note_tells_what_start_has_more_memory(version: str, gpu: str, words: str) -> None:
    answer = plan("Qwen/Qwen3-8B", gpu=gpu, vllm_version=version, max_model_len=4096)
    assert any(words in note for note in answer.notes)
    now = plan("Qwen/Qwen3-8B", gpu=gpu, max_model_len=4096)
    assert not any("planned for a first start" in note for note in now.notes)


@pytest.mark.parametrize(
    ("version", "tokens"), [("0.19.0", 2048), ("0.20", None), ("0.22", None), ("0.25", 2496)]
)
def test_gemma_4_video_and_the_step_of_a_small_card(version: str, tokens: int | None) -> None:
    """An item of 2,496 tokens: cut to 0.19, refused from 0.20 (issue 42687), lifting from 0.23."""
    flags = {"gpu": "A100", "max_model_len": 32768, "vllm_version": version}
    if tokens is None:
        with pytest.raises(InputError, match=r"item \(2496\) is larger than .* \(2048\)"):
            plan("google/gemma-4-26B-A4B-it", **flags)
        flags["max_num_batched_tokens"] = tokens = 4096
    answer = plan("google/gemma-4-26B-A4B-it", **flags)
    assert answer.engine.max_num_batched_tokens == tokens


def test_an_item_must_fit_in_the_step_that_is_asked_for() -> None:
    flags = {"gpu": "H100", "max_num_batched_tokens": 2048, "max_model_len": 32768}
    model = "google/gemma-4-26B-A4B-it"
    with pytest.raises(InputError, match="--max-num-batched-tokens 2496 or more"):
        plan(model, **flags)
    assert plan(model, **flags, language_model_only=True).engine.max_num_batched_tokens == 2048
    assert plan(model, **flags, limit_mm_per_prompt={"video": 0}).fits
    with pytest.raises(InputError, match="--max-num-batched-tokens 2496 or more"):
        plan(model, **flags, limit_mm_per_prompt={"image": 0})
    with pytest.raises(InputError, match=r"larger than max_num_batched_tokens \(2000\)"):
        plan(model, gpu="H100", max_model_len=2000, max_num_seqs=1)  # the cap undoes the lift


def test_a_video_of_qwen3_vl_is_padded_on_0_11_0() -> None:
    """A published start on four RTX 3090: 2.31 GiB and 100,752 tokens (issue 27992)."""
    flags = {"gpu": "RTX 3090", "tensor_parallel_size": 4, "max_model_len": 65536}
    model = "Qwen/Qwen3-VL-30B-A3B-Instruct"
    padded, plain = (plan(model, vllm_version=v, **flags) for v in ("0.11", "0.11.1"))
    memory = padded.memory
    found, other = memory.available_kv_cache_bytes, plain.memory.available_kv_cache_bytes
    assert found is not None and other is not None and memory.uncertainty_bytes is not None
    assert abs(found - 2.31 * GIB) < min(memory.uncertainty_bytes, 0.3 * GIB)
    assert other > found + GIB
    assert any("0.11.0" in note for note in padded.notes)


def test_backends_that_came_later_are_not_chosen() -> None:
    """TRITON_FLASHINFER and its block of 64 came in 0.30: issue 49878 printed 70.79 GiB at 0.26."""
    flags: dict[str, Any] = {
        "gpu": "B200",
        "max_model_len": 262_144,
        "max_num_batched_tokens": 32_768,
        "kv_cache_memory_bytes": 40 << 30,
        "planner": "standalone",
    }
    older = plan("google/gemma-4-31B-it", vllm_version="0.26", **flags)
    assert "70.79 GiB" in older.limits[0]
    assert older.engine.attention_backend == "TRITON_ATTN"
    assert plan("google/gemma-4-31B-it", **flags).engine.block_size == 64
    with pytest.raises(UnsupportedError, match="TRITON_FLASHINFER: only a later vLLM has it"):
        plan(
            "google/gemma-4-31B-it",
            vllm_version="0.29",
            attention_backend="TRITON_FLASHINFER",
            **flags,
        )


def test_one_constant_says_which_vllm_is_restated() -> None:
    """CI's environments, the flags' table and vLLM itself, where it is there, agree with it."""
    root = Path(__file__).parent.parent
    pinned = (root / ".ci" / "vllm-environments").read_text(encoding="utf-8")
    assert f" vllm=={VLLM_VERSION}" in pinned
    flags = root / "vllm_kv_planner" / "engine_args"
    assert json.loads((flags / "vllm_flags.json").read_text())["vllm_version"] == VLLM_VERSION
    assert json.loads((flags / "flag_versions.json").read_text())["versions"][-1] == VLLM_VERSION
    assert plan("gpt2", planner="standalone").planner.vllm_version == VLLM_VERSION
