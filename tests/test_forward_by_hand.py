"""The forward pass at its worst moment, each kind of layer worked out by hand from its card.

Tensors of a step: tokens x width x 2 bytes of bfloat16. Which tensors live together stands in
``memory/forward.py``.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.memory_engines import LLAMA, V1, peak_of, phase, rank_of, setup_of
from vllm_kv_planner.memory.activation import activation_peak, bounded, runner_buffers
from vllm_kv_planner.memory.experts import expert_kernel, expert_workspace
from vllm_kv_planner.memory.forward import forward_phase, linear_bytes


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def forward(model: Any, version: str = "0.33.0", **flags: Any) -> dict[str, int]:
    return phase(peak_of(setup_of(model, **flags), version), "forward")


T = 8192
STEP = T * 2
"""Bytes of a step, one element wide."""


@pytest.mark.parametrize(
    ("model", "flags", "expected"),
    [
        # 64 heads of 128 beside 8 pairs, 2,048 wide: experts' own tensors are smaller
        (
            "Qwen/Qwen3-30B-A3B",
            {},
            {
                "workspace": T * 8 * 2048 * 2 * 2,
                "residual": STEP * 2048,
                "normed": STEP * 2048,
                "qkv": STEP * (4096 + 1024),
                "rotated": STEP * (4096 + 512),
                "attention_output": STEP * 4096,
            },
        ),
        # OpenAI's kernels: gate and up and their activation are more than activation and output
        (
            "openai/gpt-oss-20b",
            {},
            {
                "attention_output": STEP * 4096,
                "residual": STEP * 2880,
                "output_projection": STEP * 2880,
                "normed": STEP * 2880,
                "experts_output": STEP * 2880,
                "router_logits": T * 32 * 4,
                "expert_kernel": T * 4 * (5760 + 2880) * 2,
            },
        ),
        # one of 128 experts a token, and a shared one: 8192 wide gate and up, an eighth of it
        (
            "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
            {"tensor_parallel_size": 8, "limit_mm_per_prompt": {"image": 0}},
            {
                "workspace": 2 * T * 5120 * 2,
                "attention_output": STEP * 640,
                "residual": STEP * 5120,
                "output_projection": STEP * 5120,
                "normed": STEP * 5120,
                "experts_output": STEP * 5120,
                "router_logits": T * 128 * 4,
                "shared_experts": STEP * (2048 + 1024 + 5120),
                "expert_kernel": T * 2 * 8,
            },
        ),
        # Mamba: twice 8,192 in, one half of it copied, the output twice
        (
            "tiiuae/falcon-mamba-7b",
            {},
            {
                "residual": STEP * 4096,
                "normed": STEP * 4096,
                "input_projection": STEP * 16384,
                "split": STEP * 8192,
                "mixer_output": 2 * STEP * 8192,
            },
        ),
        # latent attention of 16 heads: 64 Ki tokens of context at 128 + 128
        (
            "deepseek-ai/DeepSeek-V3",
            {"tensor_parallel_size": 8, "max_num_batched_tokens": 512},
            {
                "workspace": 512 * 8 * 7168 * 2 * 2,
                "residual": 1024 * 7168,
                "normed": 1024 * 7168,
                "queries": 1024 * 16 * (128 + 64),
                "latent": 2 * 1024 * (512 + 64),
                "attention_output": 1024 * 16 * 128,
                "context": 65536 * 16 * 256 * 2,
            },
        ),
        # an encoder without a gate: one matrix up
        (
            "BAAI/bge-m3",
            {"max_model_len": 8192},
            {
                "attention_output": STEP * 1024,
                "residual": STEP * 1024,
                "output_projection": STEP * 1024,
                "gate_and_up": STEP * 4096,
                "activated": STEP * 4096,
            },
        ),
    ],
)
def test_every_tensor(model: str, flags: dict[str, Any], expected: dict[str, int]) -> None:
    assert forward(model, **flags) == expected


def test_the_experts_of_deepseek_v3_are_the_largest_of_a_long_step() -> None:
    """256 experts of 2048, 8 a token, one shared, in fp8: inputs are quantised, a byte each."""
    tokens = 16384
    parts = forward(
        "deepseek-ai/DeepSeek-V3", gpu="H200", tensor_parallel_size=8, max_num_batched_tokens=tokens
    )
    assert parts["router_logits"] == tokens * 256 * 4
    assert parts["shared_experts"] == tokens * 2 * (512 + 256 + 7168)
    assert parts["expert_kernel"] == tokens * 8 * 2 * 8 + tokens * 7168 + tokens * 8 * 256
    assert parts["workspace"] == 2 * tokens * 8 * 7168 * 2


@pytest.mark.parametrize(
    ("length", "seqs", "context"),
    [
        (65_536, 64, 65_536),  # no more than 64 Ki
        (4096, 64, 8 * 4096),  # eight contexts
        (1024, 256, 4 * 256 * 64),  # four blocks a request
        (4096, 2048, 2048 * 64),  # a block a request at the least
    ],
)
def test_context_that_latent_attention_makes_room_for(length: int, seqs: int, context: int) -> None:
    parts = forward(
        "deepseek-ai/DeepSeek-V3",
        tensor_parallel_size=8,
        max_num_batched_tokens=2048,
        max_model_len=length,
        max_num_seqs=seqs,
        block_size=64,
    )
    assert parts["context"] == context * 16 * 256 * 2


def test_adapters_by_hand() -> None:
    """float32, tokens x rank a slice; sharded: a rank's share, and the whole twice."""
    plain = rank_of(setup_of())
    assert linear_bytes(plain, 2) == 0
    whole = rank_of(setup_of(enable_lora=True, max_lora_rank=256))
    assert (linear_bytes(whole, 1), linear_bytes(whole, 3)) == (T * 256 * 4, 3 * T * 256 * 4)
    flags = {"enable_lora": True, "max_lora_rank": 256, "fully_sharded_loras": True}
    assert linear_bytes(rank_of(setup_of(**flags)), 1) == T * 256 * 4
    shared = rank_of(setup_of(tensor_parallel_size=4, **flags))
    assert linear_bytes(shared, 1) == T * (64 + 2 * 256) * 4


def test_what_is_unsure_of_it() -> None:
    """15 %; as much again on a stage that is not the last; half where the widths are a guess."""
    for flags, stage, share in (({}, 0, 0.15), ({"pipeline_parallel_size": 2}, 0, 0.3)):
        found = forward_phase(rank_of(setup_of(**flags), stage=stage), ())
        assert found.uncertainty_bytes == int(share * sum(size for _, size in found.parts))
    mpt = {
        **{"architectures": ["MPTForCausalLM"], "model_type": "mpt", "vocab_size": 50432},
        **{"d_model": 4096, "n_heads": 32, "n_layers": 32, "max_seq_len": 8192},
    }
    guess = forward_phase(rank_of(setup_of(mpt)), (("held", 1 << 30),))
    size = sum(size for name, size in guess.parts if name != "held")
    assert guess.uncertainty_bytes == int(0.5 * size)
    assert dict(guess.parts)["gate_and_up"] == STEP * 4 * 4096  # four times as wide, no gate


def test_later_stages_hold_what_comes_in() -> None:
    """Hidden states and residual of a step, in V1 during the profile, in V2 before it."""
    setup = setup_of(pipeline_parallel_size=2)
    first, later = (peak_of(setup, "0.19.0", stage) for stage in (0, 1))
    assert "intermediate_tensors" not in phase(first, "forward")
    assert phase(later, "forward")["intermediate_tensors"] == 2 * STEP * 4096


def test_the_phase_that_decides_and_its_rivals() -> None:
    """A smaller phase that may in truth be the larger adds to the doubt."""
    peak = activation_peak(rank_of(setup_of(LLAMA)))
    sizes = {each.name: each.total_bytes() for each in peak.phases}
    assert peak.peak_bytes == max(sizes.values()) == sizes[peak.peak.name]
    worst = max(each.total_bytes() + each.uncertainty_bytes for each in peak.phases)
    assert peak.uncertainty_bytes == worst - peak.peak_bytes
    assert peak.how.startswith(f"derived from the profile run: its {peak.peak.name} phase")


def test_a_long_key_is_its_beginning_and_a_digest() -> None:
    assert bounded("x" * 1000) == "x" * 1000
    long, other = bounded("x" * 1001), bounded("x" * 1002)
    assert len(long) == len(other) == 900 + 1 + 64 and long[:900] == other[:900]
    assert long != other


def test_float32_experts_take_twice_the_workspace() -> None:
    half, whole = (
        expert_workspace(rank_of(setup_of("Qwen/Qwen3-30B-A3B", dtype=dtype)))
        for dtype in ("bfloat16", "float32")
    )
    assert whole == 2 * half == 4 * T * 8 * 2048 * 2


@pytest.mark.parametrize(
    ("gpu", "flags", "kernel"),
    [
        ("H100", {"tensor_parallel_size": 8}, "triton"),
        ("H100", {"tensor_parallel_size": 8, "enable_expert_parallel": True}, "own"),
        (
            "H100",
            {"tensor_parallel_size": 4, "data_parallel_size": 4, "enable_expert_parallel": True},
            "own",
        ),
        ("B200", {"tensor_parallel_size": 8}, "own"),
        ("A100-80GB", {"tensor_parallel_size": 8, "enable_expert_parallel": True}, "triton"),
    ],
)
def test_whose_kernels_run_block_quantised_experts(
    gpu: str, flags: dict[str, Any], kernel: str
) -> None:
    """FlashInfer's on Hopper under expert parallelism, on data-centre Blackwell always."""
    assert expert_kernel(rank_of(setup_of("deepseek-ai/DeepSeek-V3", gpu, **flags), "0.33.0")) == (
        kernel
    )


def test_what_the_runners_keep_by_hand() -> None:
    """Llama 3.1: 1,024 requests, 128,256 words in masks of 32 a number; limits of the sampler."""
    kept = dict(runner_buffers(rank_of(setup_of(), "0.33.0")))
    assert kept == {
        "input_buffers": T * (4 + 8 + 1),
        "penalty_counts": 1024 * 128_256 * 4,
        "prompt_mask": 1024 * 4008 * 4,
        "grammar_mask": 1024 * 4008 * 4,
        "logit_bias": 1024 * 4 * (1024 + 2 * 1024 + 128),
        "bad_words": 1024 * 4 * (1024 + 128 + 1),
    }
    older = dict(runner_buffers(rank_of(setup_of(environment=V1), "0.33.0")))
    # token ids, positions and slots; 512 blocks of 16 a request
    assert older == {"input_buffers": T * (4 + 8 + 8 + 4), "block_table": 1024 * 512 * 4}
    drafted = {"method": "ngram", "num_speculative_tokens": 3}
    more = dict(runner_buffers(rank_of(setup_of(speculative_config=drafted), "0.33.0")))
    assert more["grammar_mask"] == 4 * kept["grammar_mask"]
