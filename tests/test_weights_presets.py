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

from .weight_cases import estimate

FILE = Path(__file__).parent / "data" / "vllm_0_33_preset_weights.jsonl"
ROWS = list(map(json.loads, FILE.read_text(encoding="utf-8").splitlines()))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_bytes_are_vllms(row: dict[str, Any]) -> None:
    preset = find_preset(row["id"])
    assert preset is not None
    found = estimate(
        preset.config, dtype=row["dtype"], tensor_parallel_size=2, pipeline_parallel_size=2
    )
    assert list(found.num_bytes) == row["bytes"]
