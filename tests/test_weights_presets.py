"""Weights of bundled models on both stages at TP 2, against vLLM 0.33's own count.

``tools/make_preset_weights.py`` wrote ``data/vllm_0_33_preset_weights.jsonl``: one model of every
architecture and way of quantising, built by vLLM without storage, before loading.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vllm_kv_planner.config.presets import find_preset
from vllm_kv_planner.errors import UnsupportedError
from vllm_kv_planner.memory.weights.experts import uses_triton_mxfp4
from vllm_kv_planner.memory.weights.quantization.base import Quantization
from vllm_kv_planner.memory.weights.rank import Rank

from .weight_cases import LLAMA_8B, estimate

FILE = Path(__file__).parent / "data" / "vllm_0_33_preset_weights.jsonl"
ROWS = list(map(json.loads, FILE.read_text(encoding="utf-8").splitlines()))


DIFFERENT = {
    "google/gemma-4-12B-it": "vLLM builds the projections of images on both stages",
    "moonshotai/Kimi-K3": "vLLM has 8,192 bytes more on the first stage",
    "Qwen/Qwen3-235B-A22B-FP8": "vLLM quantises the routers of this copy of the config",
}
"""What is not vLLM's yet, and by how much: a test that passes must leave this list."""


def marked(row: dict[str, Any]) -> Any:
    marks = [pytest.mark.xfail(reason=DIFFERENT[row["id"]])] if row["id"] in DIFFERENT else []
    return pytest.param(row, id=row["id"], marks=marks)


@pytest.mark.parametrize("row", [marked(row) for row in ROWS])
def test_bytes_are_vllms(row: dict[str, Any]) -> None:
    preset = find_preset(row["id"])
    assert preset is not None
    found = estimate(
        preset.config, dtype=row["dtype"], tensor_parallel_size=2, pipeline_parallel_size=2
    )
    assert list(found.num_bytes) == row["bytes"]


def test_language_model_alone_has_no_encoder() -> None:
    preset = find_preset("google/gemma-3-12b-it")
    assert preset is not None
    whole = estimate(preset.config).stages[0]
    alone = estimate(preset.config, language_model_only=True).stages[0]
    assert "vision" in whole.parts and "vision" not in alone.parts
    assert whole.num_bytes - alone.num_bytes == whole.parts["vision"]


def test_groups_of_layers_fetched_in_turn_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="offload-group-size"):
        estimate(LLAMA_8B, offload_group_size=1)


@pytest.mark.parametrize(
    ("backend", "capability", "triton"),
    [
        ("triton", (10, 0), True),
        ("auto", (9, 0), True),
        ("auto", (10, 0), False),
        ("auto", (8, 0), False),
        ("marlin", (9, 0), False),
    ],
)
def test_whose_kernel_runs_mxfp4(backend: str, capability: tuple[int, int], triton: bool) -> None:
    """OpenAI's Triton kernels pad what they multiply: on Hopper, or where they are asked for."""
    rank = Rank(
        dtype="bfloat16",
        quantization=Quantization(),
        moe_backend=backend,
        compute_capability=capability,
    )
    assert uses_triton_mxfp4(rank) is triton
