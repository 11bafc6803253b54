"""Values that published configs hold and nobody would expect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vllm_kv_planner import ConfigError, plan

EXAONE_4 = {
    "architectures": ["Exaone4ForCausalLM"],
    "model_type": "exaone4",
    "hidden_size": 5120,
    "intermediate_size": 27392,
    "num_hidden_layers": 4,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 102400,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
    "sliding_window_pattern": "LLLG",
    "layer_types": [*["sliding_attention"] * 3, "full_attention"],
    "torch_dtype": "bfloat16",
}


def written(folder: Path, config: dict[str, Any]) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return str(path)


def test_a_pattern_in_letters_beside_the_list_of_layers(tmp_path: Path) -> None:
    """As LGAI-EXAONE/EXAONE-4.0-32B writes it; transformers reads the list."""
    found = plan(written(tmp_path, EXAONE_4), gpu="H100", kv_cache_memory_bytes=1 << 30)
    kinds = sorted((group.kind, group.num_layers) for group in found.kv_cache.groups)
    assert kinds == [("full_attention", 1), *[("sliding_window", 1)] * 3]


def test_letters_alone_are_refused(tmp_path: Path) -> None:
    alone = {key: value for key, value in EXAONE_4.items() if key != "layer_types"}
    with pytest.raises(ConfigError, match="sliding_window_pattern"):
        plan(written(tmp_path, alone), gpu="H100", kv_cache_memory_bytes=1 << 30)


@pytest.mark.parametrize("theta", [[10000.0, 5e6, 10000.0, 5e6], 1e6])
def test_a_rope_base_for_every_layer(tmp_path: Path, theta: object) -> None:
    """As Step 3.5 lists them."""
    config = written(tmp_path, {**EXAONE_4, "rope_theta": theta})
    assert plan(config, gpu="H100", kv_cache_memory_bytes=1 << 30).fits is not None


@pytest.mark.parametrize("theta", [[10000.0, "x"], [[1.0]], [float("1e31")], {"a": 1}])
def test_a_rope_base_that_is_none(tmp_path: Path, theta: object) -> None:
    config = written(tmp_path, {**EXAONE_4, "rope_theta": theta})
    with pytest.raises(ConfigError, match="rope_theta"):
        plan(config, gpu="H100", kv_cache_memory_bytes=1 << 30)
