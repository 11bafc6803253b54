"""Models side by side: figures worked out by hand, and the plans they must equal."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kv_planner import InputError, UnknownNameError, plan
from vllm_kv_planner.capacity.compare import COMMON_MODELS, compare_models
from vllm_kv_planner.capacity.compared import ComparedModel
from vllm_kv_planner.config.presets import find_preset

pytest_plugins = ["tests.hub_fixtures"]
pytestmark = pytest.mark.usefixtures("offline")

GIB = 1 << 30


def one(model: Any, **flags: Any) -> ComparedModel:
    return compare_models([model], **flags).models[0]


def request_bytes(row: ComparedModel) -> list[int | None]:
    return [None if each is None else each.request_bytes for each in row.at]


@pytest.mark.parametrize(
    ("model", "per_token"),
    [
        # 2 x layers x KV heads x head size x 2 bytes
        ("meta-llama/Llama-2-7b-hf", 2 * 32 * 32 * 128 * 2),
        ("meta-llama/Llama-2-13b-hf", 2 * 40 * 40 * 128 * 2),
        ("meta-llama/Llama-2-70b-hf", 327_680),
        ("mistralai/Mistral-7B-Instruct-v0.3", 131_072),
        ("Qwen/Qwen2-72B-Instruct", 327_680),
        # MLA: 61 latents of 512 + 64, once for keys and values
        ("deepseek-ai/DeepSeek-V3.1", 61 * 576 * 2),
        # 12 of 48 layers attend (2 heads of 256), the others keep a state
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", 2 * 12 * 2 * 256 * 2),
        # 10 of 62 layers are without a window, 16 heads of 128
        ("google/gemma-3-27b-it", 2 * 10 * 16 * 128 * 2),
        # 18 of 36, 8 heads of 64
        ("openai/gpt-oss-120b", 2 * 18 * 8 * 64 * 2),
        ("state-spaces/mamba-2.8b-hf", 0),
        ("BAAI/bge-m3", 0),
    ],
)
def test_bytes_per_token(model: str, per_token: int) -> None:
    assert one(model).bytes_per_token == per_token


def test_llama_2_70b_by_hand() -> None:
    row = one("meta-llama/Llama-2-70b-hf")
    assert row.max_model_len == 4096
    # longer requests do not exist for it
    assert request_bytes(row) == [None, None]
    assert row.at_maximum is not None
    assert row.at_maximum.request_bytes == 4096 * 327_680
    # 138 GB of weights on 80 GB: nothing is left, and the row says how much is missing
    assert row.weights_bytes is not None and abs(row.weights_bytes - 138e9) < 1e9
    assert row.available_kv_cache_bytes is not None and row.available_kv_cache_bytes < -59 * GIB
    assert (row.at_maximum.max_concurrency, row.at_maximum.fits) == (0.0, False)


def test_tensor_parallel_ranks_share_the_heads() -> None:
    row = one("meta-llama/Llama-2-70b-hf", tensor_parallel_size=8)
    assert row.bytes_per_token == 40_960
    assert row.at_maximum is not None and row.at_maximum.fits


def test_windows_hold_what_is_in_flight() -> None:
    row = one("google/gemma-3-27b-it", gpu="H200")
    # a block: 10 layers x 16 tokens x 2 x 16 heads x 128 x 2 bytes. Six groups with a window of
    # 1,024 beside two steps of 8,192 tokens: at 8K all 512 blocks and one, beyond cap 1,089
    per_block = 10 * 16 * 2 * 16 * 128 * 2
    assert request_bytes(row) == [
        (6 * 513 + 512) * per_block,
        (6 * 1089 + 2048) * per_block,
    ]
    assert row.at_maximum is not None
    assert row.at_maximum.request_bytes == (6 * 1089 + 8192) * per_block


def test_gpt_oss_at_its_maximum_takes_what_vllm_counts() -> None:
    # vLLM: 8,192 + 1,033 blocks a request of 131,072; 18 layers x 16 x 2 x 8 x 64 x 2 bytes
    row = one("openai/gpt-oss-120b", gpu="H200")
    assert row.at_maximum is not None
    assert row.at_maximum.request_bytes == 9225 * 589_824


def test_states_do_not_grow() -> None:
    row = one("state-spaces/mamba-2.8b-hf")
    assert row.at_maximum is not None
    assert len({*request_bytes(row), row.at_maximum.request_bytes}) == 1


def test_a_model_without_a_cache() -> None:
    comparison = compare_models(["BAAI/bge-m3"])
    (row,) = comparison.models
    assert row.reason is None and comparison.complete
    assert row.at_maximum is not None
    assert (row.at_maximum.request_bytes, row.at_maximum.max_concurrency) == (0, None)
    assert "BAAI/bge-m3 keeps no KV cache" in str(comparison)


def test_a_longrope_model_reaches_further_than_vllm_takes_unasked() -> None:
    row = one("microsoft/Phi-3.5-mini-instruct")
    assert row.max_model_len == 4096
    # 131,072 are allowed: 2 x 32 layers x 32 heads x 96 x 2 bytes, in blocks of 16 and one more
    per_block = 16 * 2 * 32 * 32 * 96 * 2
    assert request_bytes(row) == [513 * per_block, 2049 * per_block]


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", {"gpu": "L4"}),
        ("google/gemma-3-27b-it", {"gpu": "H200"}),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", {"tensor_parallel_size": 4}),
        ("openai/gpt-oss-20b", {"kv_cache_dtype": "fp8", "gpu": "H100"}),
        ("deepseek-ai/DeepSeek-V3.1", {"gpu": "H200", "tensor_parallel_size": 8}),
        ("meta-llama/Llama-3.3-70B-Instruct", {"pipeline_parallel_size": 4}),
    ],
)
def test_every_length_is_what_plan_says_of_it(model: str, flags: dict[str, Any]) -> None:
    row = one(model, **flags)
    for length, figures in (
        (8192, row.at[0]),
        (32768, row.at[1]),
        (row.max_model_len, row.at_maximum),
    ):
        answer = plan(model, max_model_len=length, **flags)
        blocks = sum(group.blocks_per_request for group in answer.kv_cache.groups)
        assert figures is not None
        assert figures.tokens == length
        assert figures.max_concurrency == answer.kv_cache.max_concurrency
        assert figures.request_bytes == blocks * answer.kv_cache.bytes_per_block
        assert figures.available_kv_cache_bytes == answer.memory.available_kv_cache_bytes
        assert figures.fits == answer.fits


def test_a_stated_length_is_the_most() -> None:
    row = one("Qwen/Qwen3-8B", max_model_len=16384)
    assert row.max_model_len == 16384
    # 2 x 36 layers x 8 heads x 128 x 2 bytes
    assert request_bytes(row) == [8192 * 147_456, None]


def test_a_model_that_cannot_be_planned_is_a_row() -> None:
    comparison = compare_models(
        ["nobody/nothing", "openai-community/gpt2", "Qwen/Qwen3-8B"], tensor_parallel_size=8
    )
    unknown, heads, planned = comparison.models
    assert unknown.reason is not None and "nobody/nothing" in unknown.reason
    assert heads.reason == (
        "Total number of attention heads (12) must be divisible by tensor parallel size (8)"
    )
    assert planned.reason is None and planned.bytes_per_token == 147_456 // 8
    assert not comparison.complete
    for text in (str(comparison), comparison._repr_html_()):
        assert "nobody/nothing" in text and "must be divisible" in text


def test_sizes_are_told_where_only_the_memory_is_not_known() -> None:
    comparison = compare_models(["Qwen/Qwen-7B"], vllm_version="0.23")
    (row,) = comparison.models
    assert row.reason is not None and "weights of QWenLMHeadModel are not known" in row.reason
    # every one of 32 heads keeps keys and values: 2 x 32 layers x 32 x 128 x 2 bytes
    assert row.bytes_per_token == 524_288
    assert request_bytes(row) == [8192 * 524_288, None]
    assert row.available_kv_cache_bytes is None and row.weights_bytes is None
    assert not comparison.complete
    assert "memory not known: Qwen/Qwen-7B: " in str(comparison)


def test_wrong_flags_are_refused_whatever_the_model() -> None:
    with pytest.raises(UnknownNameError, match="unknown GPU"):
        compare_models(["nobody/nothing"], gpu="H10000")
    with pytest.raises(InputError, match="no flag --max-model-length"):
        compare_models(["nobody/nothing"], max_model_length=3)
    with pytest.raises(InputError, match="a list of models"):
        compare_models("gpt2")


@pytest.mark.parametrize("lengths", [[], [0], [True], [8192.0], ["8K"], "8K", [10**9], 5])
def test_lengths_that_cannot_be(lengths: Any) -> None:
    with pytest.raises(InputError, match="length"):
        compare_models(["gpt2"], lengths=lengths)


def test_the_common_models_are_bundled_and_planned() -> None:
    assert len(set(COMMON_MODELS)) == len(COMMON_MODELS) >= 12
    assert all(find_preset(model) is not None for model in COMMON_MODELS)
    comparison = compare_models()
    assert comparison.complete
    assert all(row.at[0] is not None for row in comparison.models)
    table = [line for line in str(comparison).splitlines() if not line.startswith("note: ")]
    assert max(map(len, table)) <= 120
