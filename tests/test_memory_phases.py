"""The activation peak: phases computed by hand, and what may never shrink it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory_engines import (
    GIB,
    KIB,
    MIB,
    V1,
    llama_config,
    peak_of,
    phase,
    rank_of,
    setup_of,
)
from vllm_kv_planner.memory.activation import runner_buffers
from vllm_kv_planner.memory.budget import memory_budget
from vllm_kv_planner.memory.phase import allocated_bytes

QWEN_MOE = "Qwen/Qwen3-30B-A3B"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize(
    ("size", "counted"),
    [
        (0, 0),
        (1, 512),
        (513, 1024),
        (MIB, MIB),
        (10 * MIB - 1, 10 * MIB),
        (501 * MIB, 502 * MIB),  # the rest of its segment is not split off
        (501 * MIB - 512, 501 * MIB - 512),  # more than 1 MiB is left: split off
        (502 * MIB, 502 * MIB),
    ],
)
def test_allocator_counts_whole_blocks(size: int, counted: int) -> None:
    assert allocated_bytes(size) == counted


def test_a_split_limit_keeps_large_blocks_whole() -> None:
    size = 500 * MIB + 512 * KIB
    assert allocated_bytes(size) == size
    assert allocated_bytes(size, split_limited=True) == 502 * MIB


def test_sampler_of_llama_3_8b_by_hand() -> None:
    rows, vocab, tokens, hidden = 1024, 128256, 8192, 4096
    parts = phase(peak_of(setup_of()), "sampler")
    assert parts == {
        "blas_workspace": 32 * MIB,
        "hidden_states": tokens * hidden * 2,
        "sampled_hidden_states": rows * hidden * 2,
        "random_hidden_states": rows * hidden * 2,
        "logits": rows * vocab * 2,
        "float32_logits": rows * vocab * 4,
        "top_k_scratch": 132 * vocab * 4,
        "probabilities": rows * vocab * 4,
        "exponential_noise": rows * vocab * 4,
    }
    # 14 + 132 x 4 / 1024 = 14.5 bytes a row and word
    assert sum(parts[name] for name in parts if "hidden" not in name) / rows / vocab == (
        pytest.approx(14.516 + 32 * MIB / rows / vocab, abs=1e-3)
    )


def test_sampler_before_0_17_sorts() -> None:
    rows, vocab = 1024, 151936
    parts = phase(peak_of(setup_of("Qwen/Qwen3-14B"), "0.16.0"), "sampler")
    sampled = ("logits", "float32_logits", "sorted_logits", "sorted_indices", "sort_workspace")
    assert sum(parts[name] for name in sampled) == 38 * rows * vocab


def test_forward_of_llama_3_8b_by_hand() -> None:
    tokens = 8192
    compiled = phase(peak_of(setup_of()), "forward")
    assert compiled["gate_and_up"] == tokens * 2 * 14336 * 2 == 448 * MIB
    assert compiled["activated"] == 224 * MIB
    assert [compiled[name] for name in ("attention_output", "residual", "output_projection")] == (
        [64 * MIB] * 3
    )
    eager = phase(peak_of(setup_of(enforce_eager=True)), "forward")
    # vLLM 0.33's runner, executed without a GPU and with nothing compiled, held 864 MiB; before
    # 0.33 cuBLAS's workspace counts besides
    assert sum(eager.values()) - eager["blas_workspace"] == 864 * MIB
    assert sum(compiled.values()) == sum(eager.values())
    # Qwen3's layer holds gate and up while the last matrix runs: 832 MiB
    qwen = phase(peak_of(setup_of("Qwen/Qwen3-8B", enforce_eager=True)), "forward")
    assert sum(qwen.values()) - qwen["blas_workspace"] == 832 * MIB


def test_experts_keep_their_workspaces() -> None:
    tokens, top_k, hidden, up = 8192, 8, 2048, 2 * 768
    both = tokens * top_k * (max(up // 2, hidden) + max(up, hidden)) * 2
    peak = peak_of(setup_of(QWEN_MOE))
    assert phase(peak, "forward")["workspace"] == both == 512 * MIB
    assert phase(peak, "sampler")["workspace"] == both
    assert "workspace" not in phase(peak_of(setup_of(QWEN_MOE), "0.12.0"), "sampler")


def test_images_of_gemma_3_live_until_the_sampler() -> None:
    setup = setup_of("google/gemma-3-4b-it")
    held = phase(peak_of(setup), "sampler")
    assert held["encoder_outputs"] == 8192 * 2560 * 2  # 32 images of 256 tokens
    assert held["dummy_items"] == 32 * 3 * 896 * 896 * 2
    text_only = setup_of("google/gemma-3-4b-it", limit_mm_per_prompt={"image": 0, "video": 0})
    assert "encoder" not in {each.name for each in peak_of(text_only).phases}
    assert "dummy_items" not in phase(peak_of(setup, "0.33.0"), "sampler")  # runner V2


def test_the_largest_item_of_qwen_vl() -> None:
    tokens, patches, width, mlp = 16384, 4 * 16384, 1280, 3420
    short = phase(peak_of(setup_of("Qwen/Qwen2.5-VL-7B-Instruct")), "encoder")
    assert short["encoder_outputs"] == tokens * 3584 * 2  # one grid: more does not fit
    assert short["dummy_items"] == patches * 3 * 2 * 14 * 14 * 2
    assert short["encoder_layer"] == patches * (2 * width + 3 * mlp) * 2
    long = setup_of("Qwen/Qwen2.5-VL-7B-Instruct", max_model_len=128000)
    assert phase(peak_of(long), "encoder")["encoder_outputs"] == 7 * tokens * 3584 * 2
    no_video = setup_of(
        "Qwen/Qwen2.5-VL-7B-Instruct", max_model_len=128000, limit_mm_per_prompt={"video": 0}
    )
    assert phase(peak_of(no_video), "encoder") == short
    # logs of Qwen3.5: "1 image, budget 16384 tokens"
    qwen3 = phase(peak_of(setup_of("Qwen/Qwen3.5-9B", max_model_len=262144)), "encoder")
    assert qwen3["encoder_outputs"] == tokens * 4096 * 2


def test_tensor_parallelism_does_not_shrink_the_sampler() -> None:
    one, four = (peak_of(setup_of(tensor_parallel_size=tp)) for tp in (1, 4))
    assert one.peak_bytes == four.peak_bytes
    assert sum(phase(four, "forward").values()) < sum(phase(one, "forward").values())


def test_only_the_last_pipeline_stage_samples() -> None:
    setup = setup_of(pipeline_parallel_size=2)
    first, last = peak_of(setup), peak_of(setup, stage=1)
    assert {each.name for each in first.phases} == {"compilation", "forward"}
    assert phase(last, "sampler")["intermediate_tensors"] == 128 * MIB  # hidden, residual
    assert last.peak_bytes == peak_of(setup_of()).peak_bytes + 128 * MIB


def test_pooling_models_do_not_sample() -> None:
    setup = setup_of("Qwen/Qwen3-8B", runner="pooling")
    assert {each.name for each in peak_of(setup).phases} == {"compilation", "forward"}


def test_runner_v2_profiles_all_parameters_from_0_33_on() -> None:
    rows, vocab = 1024, 128256
    setup = setup_of()
    assert phase(peak_of(setup, "0.31.0"), "sampler")["logits"] == rows * vocab * 2
    assert "float32_logits" not in phase(peak_of(setup, "0.31.0"), "sampler")
    newest = phase(peak_of(setup, "0.33.0"), "sampler")
    planes = ("float32_logits", "masked_logits", "probabilities")
    assert [newest[name] for name in planes] == [rows * vocab * 4] * 3
    assert "blas_workspace" not in newest


def test_runner_v2_keeps_a_count_for_every_request_and_word() -> None:
    buffers = dict(runner_buffers(rank_of(setup_of(), "0.33.0")))
    assert buffers["penalty_counts"] == 1024 * 128256 * 4
    assert "penalty_counts" not in dict(runner_buffers(rank_of(setup_of(environment=V1), "0.33.0")))
    before = memory_budget(setup_of(), 15 * GIB, vllm_version="0.26.0")
    after = memory_budget(setup_of(), 15 * GIB, vllm_version="0.33.0")
    assert before.ranks[0].buffer_bytes == 0 < after.ranks[0].buffer_bytes


@given(
    tokens=st.integers(1024, 65536),
    seqs=st.integers(1, 1024),
    vocab=st.integers(1000, 300_000),
    more=st.integers(1, 5000),
    version=st.sampled_from(["0.16.0", "0.19.0", "0.22.0", "0.29.0", "0.33.0"]),
)
@settings(max_examples=40, deadline=None)
def test_more_never_shrinks_the_peak(
    tokens: int, seqs: int, vocab: int, more: int, version: str
) -> None:
    def peak(tokens: int, seqs: int, vocab: int) -> int:
        setup = setup_of(
            llama_config(vocab_size=vocab), max_num_batched_tokens=tokens, max_num_seqs=seqs
        )
        return peak_of(setup, version).peak_bytes

    # the allocator may split a block off a larger segment: up to 1 MiB a tensor
    least = peak(tokens, seqs, vocab) - 16 * MIB
    assert peak(tokens + more, seqs, vocab) >= least
    assert peak(tokens, seqs, vocab + more) >= least
    if version != "0.22.0" and seqs >= 8:  # fewer rows sort, which takes more a row
        assert peak(tokens, min(seqs + more, tokens), vocab) >= least


def test_a_mask_keeps_pixtral_s_images_apart() -> None:
    """110 x 110 patches an image: two at 8,192 tokens, one at 2,048, whose rows PyTorch pads."""
    model = "mistralai/Mistral-Small-3.1-24B-Instruct-2503"
    two = phase(peak_of(setup_of(model, max_num_batched_tokens=8192), "0.28.0"), "encoder")
    assert two["mask"] == (2 * 12_100) ** 2 * 2 and "padded_mask" not in two
    one = phase(peak_of(setup_of(model, max_num_batched_tokens=2048), "0.28.0"), "encoder")
    assert (one["mask"], one["padded_mask"]) == (12_100**2 * 2, 12_100 * 12_104 * 2)
    for version in ("0.11.0", "0.29.0"):
        peak = peak_of(setup_of(model, max_num_batched_tokens=8192), version)
        assert "mask" not in phase(peak, "encoder")
