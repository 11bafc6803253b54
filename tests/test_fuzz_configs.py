"""Spoilt configs: a slice of ``benchmarks/fuzz_configs.py``, and what it found before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.fuzz_configs import TooMuchWork, broken_promise, counted, findings, negative
from tests.hostile_configs import LLAMA, JsonDict, gptq
from vllm_kv_planner import PlannerError, plan
from vllm_kv_planner.cli import main
from vllm_kv_planner.config.find import FoundConfig
from vllm_kv_planner.config.presets import find_preset

GIB = 1 << 30
KNOWN: JsonDict = {"kv_cache_memory_bytes": 20 * GIB}


def preset(name: str, **change: object) -> JsonDict:
    found = find_preset(name)
    assert found is not None
    return {**found.config, **change}


def test_a_slice_of_the_fuzzer_finds_nothing() -> None:
    """The whole: ``python benchmarks/fuzz_configs.py``, 20,000 inputs of any seed."""
    assert [wrong for _, wrong, _, _ in findings(150, seed=20)] == []


def test_the_fuzzer_sees_what_it_looks_for() -> None:
    with pytest.raises(TooMuchWork):
        counted(lambda: [abs(number) for number in range(2000)], most=1000)
    assert counted(lambda: [abs(number) for number in range(200)])[1] >= 200
    assert negative({"a": [1, {"b": -2}]}) == "plan.a[1].b = -2"
    assert negative({"a": float("nan")}) == "plan.a = nan"
    assert broken_promise({"architectures": ["GPT2LMHeadModel"], "x": {1, 2}}, KNOWN) is not None


LLAVA = "llava-hf/llava-v1.6-mistral-7b-hf"
QWEN3_NEXT = "Qwen/Qwen3-Next-80B-A3B-Instruct"


@pytest.mark.parametrize(
    ("config", "flags", "says"),
    [
        ({**LLAMA, "max_position_embeddings": 0.5}, KNOWN, "must be int in a llama config, is 0.5"),
        ({**LLAMA, "n_positions": 0.5}, KNOWN, "n_positions gives a length of 0.5; expected 1"),
        ({**LLAMA, "model_max_length": 1e-300}, KNOWN, "expected 1 or more"),
        (
            preset(QWEN3_NEXT, head_dim=None),
            KNOWN,
            "head_dim must be int in a qwen3_next config, is null",
        ),
        (preset(LLAVA, image_grid_pinpoints=[[1, [2]]]), {}, "image_grid_pinpoints must be a list"),
        (preset(LLAVA, image_grid_pinpoints=[["a", "b"]]), {}, "image_grid_pinpoints must be"),
        (preset(LLAVA, image_grid_pinpoints=[[-1, 2]]), {}, "image_grid_pinpoints must be a list"),
        (
            LLAMA,
            {**KNOWN, "kv_cache_dtype": "fp8", "kv_cache_dtype_skip_layers": ["9" * 5000]},
            r"--kv-cache-dtype-skip-layers: 9{20}; the model's layers are 0 to 31",
        ),
        (
            {**LLAMA, "quantization_config": {**gptq([]), "sym": "x" * 5000}},
            KNOWN,
            "Unsupported quantization config: bits=4, sym=x{40}$",
        ),
        (
            {**LLAMA, "num_hidden_layers": 10_000},
            {},
            "num_hidden_layers must be a whole number from 1 to 1,000, is 10000",
        ),
        (
            {**LLAMA, "architectures": ["DeciLMForCausalLM"], "model_type": "nemotron-nas"},
            {},
            "block_configs",
        ),
        (
            preset("nvidia/Nemotron-H-56B-Base-8K", hybrid_override_pattern=""),
            {},
            "num_hidden_layers must be a whole number from 1",
        ),
    ],
)
def test_found_before(config: JsonDict, flags: JsonDict, says: str) -> None:
    found = FoundConfig(id="some/model", config=config, source="config.json")
    with pytest.raises(PlannerError, match=says) as refused:
        plan(found, gpu="H100", planner="standalone", **flags)
    assert len(str(refused.value)) < 400


def test_fit_takes_bounded_work_for_the_deepest_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1,000 layers, the most that are planned; 10,000 took up to 57 s, and are refused."""
    config = tmp_path / "config.json"
    words = ["fit", str(tmp_path), "--gpu", "H100,L4", "--context", "4096", "--concurrency", "4"]
    config.write_text(json.dumps({**LLAMA, "num_hidden_layers": 1000}))
    assert counted(lambda: main(words), most=2_000_000)[0] == 0
    assert "vllm serve" in capsys.readouterr().out
    config.write_text(json.dumps({**LLAMA, "num_hidden_layers": 10_000}))
    assert counted(lambda: main(words), most=200_000)[0] == 2
    assert "num_hidden_layers must be a whole number from 1 to 1,000" in capsys.readouterr().err
