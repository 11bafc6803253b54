"""``max_model_len`` from configs, from vLLM's source by hand."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_kv_planner.engine_args.lengths import resolve_max_model_len
from vllm_kv_planner.errors import ConfigError, InputError


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"n_positions": 1024, "max_position_embeddings": 2048}, 1024),
        ({"max_target_positions": 448, "max_source_positions": 1500}, 448),
        ({"max_position_embeddings": 8192, "model_max_length": 131_072}, 131_072),  # Command-R
        ({}, 2048),
        (
            {"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 8.0}},
            32_768,
        ),
        (
            {"max_position_embeddings": 4096, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
            8192,
        ),
        # YaRN and llama3 state the scaled length.
        (
            {"max_position_embeddings": 32_768, "rope_scaling": {"type": "yarn", "factor": 4.0}},
            32_768,
        ),
        (
            {
                "max_position_embeddings": 131_072,
                "rope_parameters": {"rope_type": "llama3", "factor": 8.0},
            },
            131_072,
        ),
        (  # Phi-3-128k: longrope starts from the original length
            {
                "max_position_embeddings": 131_072,
                "original_max_position_embeddings": 4096,
                "rope_scaling": {"type": "su", "long_factor": [1.0]},
            },
            4096,
        ),
        (  # Gemma 3: nested by layer type, and never scaled again
            {
                "model_type": "gemma3_text",
                "max_position_embeddings": 131_072,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0},
                    "sliding_attention": {"rope_type": "default"},
                },
            },
            131_072,
        ),
        (
            {
                "max_position_embeddings": 4096,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 4.0},
                    "sliding_attention": None,
                },
            },
            16_384,
        ),
        ({"max_position_embeddings": 32_768, "rope_scaling": {"type": "mrope"}}, 32_768),
        (
            {"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": None}},
            4096,
        ),
    ],
)
def test_derived_length(config: dict[str, Any], length: int) -> None:
    assert resolve_max_model_len(None, config).max_model_len == length
    assert resolve_max_model_len(100, config).max_model_len == 100


def test_auto_length_starts_from_the_models() -> None:
    fitted = resolve_max_model_len(-1, {"max_position_embeddings": 4096})
    assert (fitted.max_model_len, fitted.auto_fit) == (4096, True)
    with pytest.raises(InputError, match="positive integer"):
        resolve_max_model_len(-1, {})


def test_longer_than_the_model() -> None:
    config = {"max_position_embeddings": 4096}
    with pytest.raises(InputError) as caught:
        resolve_max_model_len(4097, config)
    assert "User-specified max_model_len (4097) is greater than the derived" in str(caught.value)
    assert "max_position_embeddings=4096" in str(caught.value)
    assert "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1" in str(caught.value)
    allowed = resolve_max_model_len(4097, config, allow_long=True)
    assert allowed.max_model_len == 4097
    assert allowed.note is not None
    assert resolve_max_model_len(9999, {}).max_model_len == 9999  # nothing to compare with


def test_disabled_window_caps_the_length() -> None:
    config = {"max_position_embeddings": 32_768, "sliding_window": 4096}
    assert resolve_max_model_len(None, config).max_model_len == 32_768
    capped = resolve_max_model_len(None, config, disable_sliding_window=True)
    assert (capped.max_model_len, capped.derived_from) == (4096, "sliding_window")


@pytest.mark.parametrize("value", [0, -1, "4096", float("nan"), float("inf"), [1], True, 1 << 60])
def test_hostile_lengths(value: object) -> None:
    with pytest.raises(ConfigError, match="expected a positive number"):
        resolve_max_model_len(None, {"max_position_embeddings": value})
    with pytest.raises(ConfigError, match="rope factor"):
        config = {"max_position_embeddings": 1, "rope_scaling": {"factor": value}}
        resolve_max_model_len(None, config)
