"""Conversions, overrides, refusals, and the tables that name the rules."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import vllm_kv_planner
from vllm_kv_planner.errors import ConfigError, InputError, PlannerError, UnsupportedError
from vllm_kv_planner.memory.weights import architectures as families
from vllm_kv_planner.model.architectures import derived, registry
from vllm_kv_planner.model.architectures.hf_config import config_classes
from vllm_kv_planner.model.describe import describe
from vllm_kv_planner.model.layers.attention import Attention

from .architecture_cases import kinds, plain, read
from .shared import config_files, needs_shared


def test_encoders_keep_nothing() -> None:
    model = read("BertModel", "bert")
    assert kinds(model) == Counter({(12, 64, None, "encoder_only"): 12})
    assert model.runner_type == "pooling"
    with pytest.raises(InputError, match="runner"):
        describe(
            {"architectures": ["BertModel"], "model_type": "bert"}, where="x", runner="generate"
        )


def test_is_causal_false_makes_an_encoder() -> None:
    values = {"num_hidden_layers": 2, "is_causal": False}
    model = read("Qwen2ForCausalLM", "qwen2", **values)
    assert kinds(model) == Counter({(32, 128, None, "encoder_only"): 2})


def test_conversions_of_a_base_model() -> None:
    model = read("Qwen3ForSequenceClassification", "qwen3", num_hidden_layers=3)
    assert kinds(model) == plain(3, 32, 128)
    assert (model.architecture, model.runner_type) == ("Qwen3ForSequenceClassification", "pooling")
    assert read("Qwen3Model", "qwen3", num_hidden_layers=3).runner_type == "pooling"


def test_looped_layers_keep_a_cache_for_each_time() -> None:
    model = read("HrmTextForCausalLM", "hrm_text", num_hidden_layers=4, H_cycles=2, L_cycles=3)
    # 4 layers in the low stack, 2 x 3 times each; 4 in the high stack, twice each
    assert len(model.layers) == 4 * 6 + 4 * 2


def test_keys_and_values_of_different_width() -> None:
    model = read(
        "MiMoV2FlashForCausalLM",
        "mimo_v2_flash",
        num_hidden_layers=3,
        head_dim=192,
        v_head_dim=128,
        num_key_value_heads=4,
        swa_num_attention_heads=64,
        swa_num_key_value_heads=8,
        swa_head_dim=192,
        swa_v_head_dim=128,
        sliding_window_size=128,
        hybrid_layer_pattern=[0, 1, 1],
    )
    assert kinds(model) == Counter({(4, 192, None, "decoder"): 1, (8, 192, 128, "decoder"): 2})
    assert {layer.head_size_v for layer in model.layers if isinstance(layer, Attention)} == {128}


def test_hf_overrides_reach_nested_configs() -> None:
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": {"model_type": "llama", "num_hidden_layers": 5},
    }
    model = describe(config, where="x", hf_overrides={"text_config": {"num_key_value_heads": 4}})
    assert kinds(model) == plain(5, 4, 128)


def test_old_flat_files_of_composite_classes() -> None:
    values = {"hidden_size": 1536, "num_attention_heads": 12, "num_key_value_heads": 2}
    model = read("Qwen2VLForConditionalGeneration", "qwen2_vl", num_hidden_layers=28, **values)
    assert kinds(model) == plain(28, 2, 128)


def test_windows_in_some_layers_are_refused_where_vllm_does() -> None:
    values = {"use_sliding_window": True, "max_window_layers": 2, "num_hidden_layers": 4}
    with pytest.raises(ConfigError, match="layer_types"):
        read("Qwen3ForCausalLM", "qwen3", sliding_window=1024, **values)


def test_removed_architectures_are_planned_for_the_versions_that_had_them() -> None:
    with pytest.raises(UnsupportedError, match=r"up to 0\.28\.0, 0\.33 .* --vllm-version 0\.28"):
        vllm_kv_planner.plan("mosaicml/mpt-7b", gpu="H100")
    with pytest.raises(UnsupportedError, match=r"up to 0\.28\.0, 0\.29 does not"):
        vllm_kv_planner.plan("mosaicml/mpt-7b", gpu="H100", vllm_version="0.29")
    assert vllm_kv_planner.plan("mosaicml/mpt-7b", vllm_version="0.28").model.num_layers == 32


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        ({"architectures": ["LlamaForCausalLN"]}, UnsupportedError, "LlamaForCausalLM"),
        ({"architectures": ["NoSuchThing"]}, UnsupportedError, "--planner vllm"),
        ({}, UnsupportedError, "architectures"),
        ({"architectures": "LlamaForCausalLM"}, ConfigError, "list"),
        (
            {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": -1},
            ConfigError,
            "num_hidden_layers",
        ),
        (
            {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
            | {"num_attention_heads": 0},
            ConfigError,
            "num_attention_heads",
        ),
        ({"architectures": ["LlamaForCausalLM"]}, ConfigError, "model_type is missing"),
    ],
)
def test_refusals_are_one_line(
    config: dict[str, Any], error: type[PlannerError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        describe(config, where="config.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "change", "words"),
    [
        ("LlamaForCausalLM", {"model_type": "qwen9"}, r'type "qwen9" is not known .* is llama\)'),
        ("LlamaForCausalLM", {"model_type": "bert"}, "another kind of config class than Llama"),
        ("LlamaForCausalLM", {"model_type": None}, "model_type is missing"),
        ("NemotronHForCausalLM", {"model_type": "llama"}, "another kind of config class"),
        ("DeciLMForCausalLM", {}, "block_configs is missing: a list of 2 items"),
        ("SolarForCausalLM", {"model_type": "qwen9"}, None),
        ("MistralForCausalLM", {"model_type": "llama"}, None),
        ("LlamaForCausalLM", {"model_type": "own", "auto_map": {"AutoConfig": "a.B"}}, None),
        (
            "NemotronHForCausalLM",
            {"auto_map": {"AutoConfig": "a.B"}, "hybrid_override_pattern": "M"},
            "num_hidden_layers is 2, the types of 1 layers are given",
        ),
    ],
)
def test_model_types_have_the_class_that_the_architecture_reads(
    architecture: str, change: dict[str, Any], words: str | None
) -> None:
    """As vLLM 0.33 and transformers 5.20 refuse them (``benchmarks/fuzz_configs.py``)."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 512}
    base = {"architectures": [architecture], "model_type": "llama", **sizes}
    config = {**base, "intermediate_size": 64, **change}
    if words is None:
        assert describe(config, where="config.json").num_hidden_layers == 2
        return
    with pytest.raises(PlannerError, match=words):
        describe(config, where="config.json")


def test_every_row_names_a_rule_that_exists() -> None:
    for name in registry.table():
        row = registry.row(name)
        assert row is not None
        if "text" not in row:
            assert callable(registry.rule(row["rule"])), name
        elif isinstance(row["text"], str):
            inner = registry.row(row["text"])
            assert inner is not None, name
            assert "text" not in inner, name


def test_every_derivation_is_known() -> None:
    for model_type, known in config_classes().items():
        for step, *_ in known.get("derive", ()):
            assert callable(getattr(derived, step)), model_type


def test_tables_are_sorted_one_row_a_line() -> None:
    folder = files("vllm_kv_planner.model.architectures")
    for name in ("attention.json", "config_classes.json"):
        text = (folder / name).read_text(encoding="utf-8")
        keys = list(json.loads(text))
        assert keys == sorted(keys)
        assert len(text.splitlines()) == len(keys) + 2


def test_suffixes_are_tried_in_vllms_order() -> None:
    assert list(registry._SUFFIXES)[-1] == "Model"


@pytest.mark.parametrize("model", sorted(config_files()) or [""])
def test_every_published_config_is_described_or_refused(model: str) -> None:
    needs_shared()
    config = json.loads(config_files()[model].read_text(encoding="utf-8"))
    try:
        described = describe(config, where=model)
    except PlannerError as refusal:
        assert "\n" not in str(refusal)
        assert len(str(refusal)) < 400
    else:
        assert described.layers


# The tables themselves: a mistyped key, rule or name is an error


def words_of(folder: str) -> set[str]:
    """Every text that stands in the code of a folder of the package."""
    root = Path(vllm_kv_planner.__file__).parent / folder
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in root.rglob("*.py"))
    nodes = (node for tree in trees for node in ast.walk(tree))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


@pytest.mark.parametrize(
    ("table", "folder", "rule", "find"),
    [
        (registry.table(), "model", registry.rule, registry.row),
        (families.table(), "memory", families.rule, families.family),
    ],
    ids=["caches", "weights"],
)
def test_rows_hold_what_the_code_reads(
    table: Mapping[str, Mapping[str, Any]], folder: str, rule: Any, find: Any
) -> None:
    words = words_of(folder)
    for name, row in table.items():
        assert row.keys() <= words, name
        assert all(find(row[each]) for each in ("like", "same_as") if each in row), name
        for each in ("rule", "wrapper"):
            if each in row:
                assert callable(rule(row[each])), name


def test_a_plain_architecture_is_one_row() -> None:
    """``same_as`` carries caches and weights."""
    for name, row in registry.table().items():
        if "same_as" in row:
            assert name not in families.table()
            assert families.family(name) == families.family(row["same_as"]) is not None
