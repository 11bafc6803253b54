"""What LoRA adds beside its slots: buffers of the profile run, and more graphs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.memory_engines import MIB, V1, peak_of, phase, rank_of, setup_of
from vllm_kv_planner.cli import main
from vllm_kv_planner.errors import UnsupportedError
from vllm_kv_planner.memory.cuda_graphs import capture_cases, graph_estimate
from vllm_kv_planner.memory.experts import expert_bytes
from vllm_kv_planner.memory.overheads import known_overheads

QWEN_MOE = "Qwen/Qwen3-30B-A3B"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_small_ranks_hide_behind_the_activation() -> None:
    """Llama 3 8B: 16 float32 columns twice are less than the 14,336 of the activation."""
    plain, adapted = (peak_of(setup_of(enable_lora=on)) for on in (False, True))
    assert phase(plain, "forward") == phase(adapted, "forward")


def test_the_narrow_product_beside_its_input() -> None:
    flags = {"tensor_parallel_size": 8, "enable_lora": True, "max_lora_rank": 512}
    tokens, hidden, columns = 8192, 4096, 2 * 512
    live = phase(peak_of(setup_of(**flags)), "forward")["activated"]
    assert live == tokens * (hidden * 2 + columns * 4) == 96 * MIB
    sharded = phase(peak_of(setup_of(**flags, fully_sharded_loras=True)), "forward")["activated"]
    assert sharded == tokens * (hidden * 2 + 2 * (64 + 2 * 512) * 4)


def test_experts_sort_once_more_for_each_adapter() -> None:
    """128 experts of Qwen3-30B-A3B, 8 a token; 63 empty places at the end of each expert's."""
    padded = 8192 * 8 + 128 * 63
    flags = {"enable_lora": True, "max_loras": 4}
    rank = rank_of(setup_of(QWEN_MOE, **flags), "0.33.0")
    assert expert_bytes(rank, 8192) == 4 * padded * 4
    wide = rank_of(setup_of(QWEN_MOE, **flags, max_lora_rank=256), "0.33.0")
    assert wide.uses_v2
    assert expert_bytes(wide, 8192) == 4 * padded * (4 + 2 * 256 * 2)
    v1 = rank_of(setup_of(QWEN_MOE, environment=V1, **flags, max_lora_rank=256), "0.33.0")
    assert expert_bytes(v1, 8192) == 4 * padded * 4
    assert expert_bytes(rank_of(setup_of(QWEN_MOE), "0.33.0"), 8192) == 0


@pytest.mark.parametrize(
    ("flags", "cases"),
    [
        ({}, 1),
        ({"enable_lora": True}, 2),
        ({"enable_lora": True, "specialize_active_lora": True, "max_loras": 8}, 6),
        ({"enable_lora": True, "specialize_active_lora": True, "max_loras": 5}, 5),
    ],
)
def test_graphs_without_and_with_adapters(flags: dict[str, object], cases: int) -> None:
    """None, 1, 2, 4, 8 and 9 adapters of 8: ``get_captured_lora_counts``."""
    plain, adapted = (rank_of(setup_of(**more), "0.33.0") for more in ({}, flags))
    assert capture_cases(adapted) == cases
    costs = known_overheads().graphs
    one, many = (graph_estimate(rank, costs) for rank in (plain, adapted))
    assert many.num_graphs == cases * one.num_graphs
    assert (many.estimate_bytes > one.estimate_bytes) is (cases > 1)


def test_models_without_a_place_for_adapters() -> None:
    """As ``load_lora_model`` says it."""
    with pytest.raises(UnsupportedError, match="GPT2LMHeadModel does not support LoRA yet"):
        setup_of("gpt2", max_model_len=1024, enable_lora=True)
    assert setup_of("gpt2", max_model_len=1024).args.enable_lora is False


def test_graphs_that_do_not_tell_adapters_apart() -> None:
    config = {"cudagraph_specialize_lora": False}
    flags = {"enable_lora": True, "compilation_config": config}
    assert capture_cases(rank_of(setup_of(environment=V1, **flags), "0.33.0")) == 1
    assert capture_cases(rank_of(setup_of(**flags), "0.33.0")) == 2


ADAPTER = {"r": 64, "base_model_name_or_path": "Qwen/Qwen3-0.6B"}


@pytest.mark.parametrize(
    ("adapter", "flags", "said"),
    [
        (ADAPTER, "", "LoRA is not enabled. Use --enable-lora to enable LoRA."),
        (ADAPTER, "--enable-lora", "rank 64 is greater than max_lora_rank 16. --max-lora-rank 64"),
        ({"r": 8, "rank_pattern": {"q": 20}}, "--enable-lora", "LoRA rank 20 is greater"),
        ({"r": 8, "use_dora": True}, "--enable-lora", "vLLM does not yet support DoRA"),
        ({"r": 8, "bias": "all"}, "--enable-lora", "Adapter bias is not supported"),
        (ADAPTER, "--enable-lora --max-lora-rank 64", ""),
        ({**ADAPTER, "base_model_name_or_path": "org/m"}, "--enable-lora --max-lora-rank 64", "m"),
    ],
)
def test_adapters_that_the_engine_does_not_take(
    adapter: dict[str, object], flags: str, said: str, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
    as_json = json.dumps({"name": "a", "path": str(tmp_path)})
    for value in (f"a={tmp_path}", as_json):
        line = ["Qwen/Qwen3-0.6B", *flags.split(), "--lora-modules", value]
        for words in (line, ["--", "vllm", "serve", *line]):
            code = main(["plan", "--gpu", "H100", *words])
            out, error = capsys.readouterr()
            assert code == (0 if "rank 64" in flags else 2)
            assert said in (out if code == 0 else error)
            assert ("an adapter of org/m" in out) == (said == "m")


@pytest.mark.parametrize("value", ["a", "{", '{"name": "a"}', '{"name": "a", "path": "p", "x": 1}'])
def test_adapters_that_vllm_cannot_read(value: str, capsys: Any) -> None:
    flags = ["--enable-lora", "--lora-modules", value]
    assert main(["plan", "Qwen/Qwen3-0.6B", "--gpu", "H100", *flags]) == 2
    assert "for --lora-modules: " in capsys.readouterr().err


def test_an_adapter_that_is_not_here_is_named(capsys: Any) -> None:
    flags = ["--enable-lora", "--lora-modules", "a=/mnt/adapter", "b=org/adapter"]
    assert main(["plan", "Qwen/Qwen3-0.6B", "--gpu", "H100", *flags]) == 0
    said = capsys.readouterr().out
    assert "/mnt/adapter is not known here" in said
    assert "org/adapter is not known here" in said
