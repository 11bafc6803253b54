"""Widths of a layer come from the modules that hold its weights, not from names in the config."""

from __future__ import annotations

import pytest

from tests.memory_engines import LLAMA, rank_of, setup_of
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.memory import widths
from vllm_kv_planner.memory.weights.architectures import family
from vllm_kv_planner.memory.widths import LayerShapes


def shapes(model: str, **flags: object) -> LayerShapes:
    return rank_of(setup_of(model, **flags)).shapes


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # one matrix up, no gate
        ("BAAI/bge-m3", {"mlp_up": 4096, "mlp_down_in": 4096}),
        # full layers have 16 wide heads and two KV heads
        ("google/gemma-4-26B-A4B", {"query": 8192, "key_value": 2048, "projected": 10240}),
        # queries are projected with a gate of their width; the routers' steps lie beside the mixer
        (
            "nvidia/Qwen3.6-27B-NVFP4",
            {"query": 6144, "key_value": 2048, "projected": 14336, "mixer_in": 16480},
        ),
        # dense layers are wider than an expert, and one expert is shared
        (
            "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
            {"mlp_up": 32768, "mlp_down_in": 16384},
        ),
        # every layer has its own width
        ("nvidia/Llama-3_3-Nemotron-Super-49B-v1", {"mlp_up": 57344, "is_guess": False}),
        # 1,856 wide, without a gate, and no layer with an MLP of its own
        ("nvidia/Nemotron-3-Nano", {"mlp_up": 0, "has_dense_layers": False}),
        # twice the hidden size, as the config says; not ``expand`` times ``intermediate_size``
        ("tiiuae/falcon-mamba-7b", {"mixer_in": 16384, "mixer_out": 8192, "mlp_up": 0}),
    ],
)
def test_widths_are_those_of_the_weights(model: str, expected: dict[str, object]) -> None:
    found = shapes(model)
    assert {name: getattr(found, name) for name in expected} == expected


def test_shared_and_routed_experts() -> None:
    found = shapes("meta-llama/Llama-4-Maverick-17B-128E-Instruct", tensor_parallel_size=2).experts
    assert found is not None
    assert (found.count, found.top_k, found.up, found.down_in) == (128, 1, 8192, 4096)
    assert (found.shared_up, found.shared_down_in) == (8192, 4096)


def test_what_every_gpu_holds_whole_is_not_divided() -> None:
    one, two = (
        shapes("bigcode/gpt_bigcode-santacoder", max_model_len=2048, tensor_parallel_size=size)
        for size in (1, 2)
    )
    assert one.mlp_up == two.mlp_up
    assert one.query == 2 * two.query


def test_architectures_without_weights_are_read_off_the_config() -> None:
    config = {**find_config(LLAMA).config, "architectures": ["GritLM"]}
    assert family("GritLM") is None
    assert rank_of(setup_of(config)).shapes == shapes(LLAMA)


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("01-ai/Yi-1.5-34B-Chat", {}),
        ("deepseek-ai/deepseek-moe-16b-base", {"data_parallel_size": 2}),
        ("deepseek-ai/DeepSeek-R1", {"enable_expert_parallel": True}),
        ("zai-org/GLM-4.5", {}),
        ("THUDM/chatglm3-6b", {}),
        ("google/gemma-3-12b-it", {}),
    ],
)
def test_names_in_the_config_say_the_same_as_the_weights(
    model: str, flags: dict[str, object]
) -> None:
    """Two readings that have nothing in common, of architectures that both can read."""
    setup = setup_of(model, max_model_len=1024, tensor_parallel_size=2, **flags)
    assert widths._of_config(setup) == widths.layer_shapes(setup)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # Mamba-Codestral-7B: 128 heads of 64, 8 groups of 128 states, and a step for each head
        (
            {"mamba_num_heads": 128, "mamba_head_dim": 64, "n_groups": 8, "ssm_state_size": 128},
            (2 * 8192 + 2 * 8 * 128 + 128, 8192),
        ),
        # Mamba-1 of Jamba: twice as wide
        ({"mamba_expand": 2, "mamba_d_state": 16}, (4 * 4096 + 32, 8192)),
        # Qwen3-Next: 16 heads of keys, 32 of values, 128 wide; queries and a gate as wide
        (
            {
                **{"linear_num_value_heads": 32, "linear_value_head_dim": 128},
                **{"linear_num_key_heads": 16, "linear_key_head_dim": 128},
            },
            (2 * 2048 + 2 * 4096, 4096),
        ),
        ({"hidden_size": 4096}, (0, 0)),
    ],
)
def test_mixers_by_the_names_in_the_config(
    config: dict[str, int], expected: tuple[int, int]
) -> None:
    assert widths._mixer(config, 4096) == expected


def test_numbers_of_a_config() -> None:
    """The first name that holds a positive whole number; of a list its largest."""
    assert widths._int({"a": None, "b": 3}, "a", "b") == 3
    assert widths._int({"a": 0, "b": 1}, "a", "b") == 1
    assert widths._int({"a": True, "b": -1, "c": 1 << 31, "d": (1 << 31) - 1}, *"abcd") == 2**31 - 1
    assert widths._int({"a": [2, True, 7, "9"], "b": 8}, "a", "b") == 7
    assert widths._int({"a": [], "b": 8}, "a", "b") == 8
    assert widths._int({}, "a") is None


@pytest.mark.parametrize(
    ("config", "dense"),
    [
        ({}, False),
        ({"first_k_dense_replace": 1}, True),  # DeepSeek
        ({"moe_layer_start_index": 3}, True),  # Ernie 4.5
        ({"decoder_sparse_step": 1}, False),
        ({"decoder_sparse_step": 2}, True),  # Qwen
        ({"interleave_moe_layer_step": 2}, True),  # Llama 4 Maverick
        ({"moe_layer_freq": 2}, True),
        ({"mlp_only_layers": [0]}, True),
        ({"enable_moe_block": True}, True),  # Gemma 4: both in every layer
    ],
)
def test_which_mixtures_have_plain_layers_too(config: dict[str, object], dense: bool) -> None:
    assert widths._some_dense(config) is dense
