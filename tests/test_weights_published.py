"""Weights per rank: vLLM's own for published configs, engines' reports, and properties."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_kv_planner.config.presets import find_preset
from vllm_kv_planner.errors import UnsupportedError
from vllm_kv_planner.model.describe import describe

from .shared import config_files, records
from .weight_cases import GIB, LLAMA_8B, QWEN3_MOE, ROPE_8B, estimate


def shared_rows() -> list[dict[str, Any]]:
    return records("vllm_plans.jsonl")


def test_published_models_as_vllm_counts_them() -> None:
    """First pipeline stage, before post-processing, to 0.0001 GiB as recorded."""
    rows, files = shared_rows(), config_files()
    if not rows:
        pytest.skip("needs ../shared/ground_truth")
    wrong: list[str] = []
    compared = 0
    for row in rows:
        config = json.loads(files[row["hf_id"]].read_text())
        args = row["args"]
        dtype = str(describe(config, where="x").dtype or "float16")
        dtype = "bfloat16" if dtype == "float32" else dtype
        try:
            found = estimate(
                config, dtype=dtype, tensor_parallel_size=args.get("tensor_parallel_size", 1)
            )
        except UnsupportedError as error:
            wrong.append(f"{row['hf_id']}: {error}")
            continue
        compared += 1
        expected = row["weights_gib"][0]
        if abs(found.num_bytes[0] / GIB - expected) > 0.0001 + 0.0001 * expected:
            wrong.append(f"{row['hf_id']} {args}: {found.num_bytes[0] / GIB:.4f} {expected}")
    assert compared >= 0.95 * len(rows)
    assert len(wrong) <= 0.05 * len(rows), "\n".join(wrong)


@pytest.mark.parametrize(("size", "size_bytes"), [(1, 322_084_987_816), (8, 40_930_050_536)])
def test_glm_5_3_flash_quantises_neither_what_attends_nor_its_encoder(
    size: int, size_bytes: int
) -> None:
    """FP8 in blocks; vLLM 0.33's own count, made by ``tools/compare_weights.py``."""
    preset = find_preset("zai-org/GLM-5.3-Flash")
    assert preset is not None
    found = estimate(preset.config, tensor_parallel_size=size)
    assert found.num_bytes == (size_bytes,)


def test_loading_as_h100_engines_reported_it() -> None:
    """vLLM 0.19 on H100: printed to 0.01 GiB."""
    files = config_files()
    rows = [
        row
        for row in records("h100_v0.19_sweep.jsonl")
        if row["model"] in files and row.get("model_load_gib")
    ]
    if not rows:
        pytest.skip("needs ../shared/ground_truth")
    for row in rows:
        config = json.loads(files[row["model"]].read_text())
        found = estimate(
            config,
            version=(0, 19),
            **({"quantization": "fp8"} if row["quantization"] == "fp8" else {}),
            tensor_parallel_size=row["tp"] or 1,
            pipeline_parallel_size=row["pp"] or 1,
        )
        expected = row["model_load_gib"]
        most = max(found.loaded_bytes) / GIB
        assert most == pytest.approx(expected, rel=0.003, abs=0.015), row["model"]


sizes = st.fixed_dictionaries(
    {
        "num_hidden_layers": st.integers(2, 12),
        "num_key_value_heads": st.sampled_from([1, 2, 4, 8]),
        "intermediate_size": st.sampled_from([256, 1024, 14336]),
        "vocab_size": st.integers(64, 200_000),
        "tie_word_embeddings": st.booleans(),
    }
)


@settings(max_examples=50, deadline=None)
@given(sizes, st.sampled_from([LLAMA_8B, QWEN3_MOE]))
def test_more_gpus_never_mean_more_bytes_each(
    values: Mapping[str, Any], base: dict[str, Any]
) -> None:
    config = {**base, **values}
    found = [estimate(config, tensor_parallel_size=tp).num_bytes[0] for tp in (1, 2, 4, 8)]
    assert found == sorted(found, reverse=True)
    divided = [
        estimate(
            config, tensor_parallel_size=tp, enable_expert_parallel=base is QWEN3_MOE
        ).num_bytes[0]
        for tp in (1, 2, 4, 8)
    ]
    assert divided == sorted(divided, reverse=True)


@settings(max_examples=50, deadline=None)
@given(sizes, st.integers(1, 2))
def test_stages_add_up(values: Mapping[str, Any], tensor_parallel_size: int) -> None:
    """Stages hold the whole, and again what each has of its own: rope, and a tied embedding."""
    config = {**LLAMA_8B, **values}
    (whole,) = estimate(config, tensor_parallel_size=tensor_parallel_size).stages
    two = estimate(config, tensor_parallel_size=tensor_parallel_size, pipeline_parallel_size=2)
    again = ROPE_8B + (whole.parts["embedding"] if values["tie_word_embeddings"] else 0)
    assert sum(two.num_bytes) == whole.num_bytes + again


@settings(max_examples=30, deadline=None)
@given(sizes)
def test_parts_add_up(values: Mapping[str, Any]) -> None:
    for stage in estimate({**QWEN3_MOE, **values}, pipeline_parallel_size=2).stages:
        assert sum(stage.parts.values()) == stage.num_bytes
        assert stage.loaded_bytes >= stage.num_bytes
