"""The bundled models: every one loads, and says what its published config says."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vllm_kv_planner.config import presets
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.config.found import named_quantization
from vllm_kv_planner.config.presets import known_names
from vllm_kv_planner.model.config import Config
from vllm_kv_planner.model.defaults import defaults_for

MODEL = Path(presets.__file__).parent
REPOSITORY = MODEL.parent.parent
PUBLISHED = REPOSITORY.parent / "shared" / "configs"
SIZES = re.compile(r"(?!.*token).*(size|heads|layers|head_dim|window|rank|expert|dtype)")
NO_SIZES = {  # of generation, pruning and classification
    "chunk_size_feed_forward",
    "classifier_proj_size",
    "encoder_no_repeat_ngram_size",
    "no_repeat_ngram_size",
    "pruned_heads",
}
FAMILIES = """
gpt2 Llama-2 Llama-3 Llama-4 Mistral-7B Mixtral Qwen-7B Qwen1.5 Qwen2 Qwen2.5 Qwen3 Qwen3.5
Qwen3.6 DeepSeek-V2 DeepSeek-V3 DeepSeek-V3.2 DeepSeek-V4 Kimi-K2 Kimi-K3 GLM-4 GLM-5
MiniMax-M2 MiniMax-M3 gpt-oss gemma-2b gemma-2-9b gemma-3 gemma-4 phi-2 Phi-3 Phi-4 granite
OLMo Nemotron Jamba falcon whisper -VL- llava -FP8 -AWQ -GPTQ -NVFP4
"""
LINES = [json.loads(line) for line in (MODEL / "presets.jsonl").read_text().splitlines()]


def published() -> list[Any]:
    if not (PUBLISHED / "INDEX.tsv").exists():
        reason = "needs ../shared/configs, which is not here"
        return [pytest.param("", "", marks=pytest.mark.skip(reason=reason))]
    with (PUBLISHED / "INDEX.tsv").open(newline="") as index:
        rows = csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [pytest.param(row["hf_id"], row["file"], id=row["hf_id"]) for row in rows]


def test_enough_of_every_family() -> None:
    names = known_names()
    assert len(names) >= 400
    for family in FAMILIES.split():
        assert any(family.lower() in name.lower() for name in names), family


def test_lines_are_sorted_unique_and_have_a_source() -> None:
    ids = [line["id"].lower() for line in LINES[1:]]
    assert ids == sorted(set(ids))
    for line in LINES[1:]:
        assert re.match(r"(config\.json|sizes as published in config\.json) of ", line["source"])
        assert line.keys() <= {"id", "certainty", "source", "config", "like", "drop", "files"}
        by_hand = line["source"].startswith("sizes as published")
        assert line["certainty"] in (("derived",) if by_hand else presets.CERTAINTIES)
        assert "config" in line or "like" in line
    text = (MODEL / "presets.jsonl").read_text()
    assert text.isascii()  # offsets into the lower-cased copy must hold
    assert len(text) < 500_000


@pytest.mark.parametrize("name", known_names())
def test_preset_is_a_config(name: str) -> None:
    preset = presets.find_preset(name)
    assert preset is not None
    assert preset.id == name
    assert '"$' not in json.dumps(preset.config)
    config = Config(preset.config, name)
    assert config.list_of_strs("architectures", length=1)
    assert config.str("model_type")
    text = config.opt_sub("text_config") or config
    text = text.with_defaults(defaults_for(text.str("model_type", default="")))
    layers = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "decoder_layers")
    assert text.opt_int(*layers) or text.list_of_strs("layers_block_type")


@pytest.mark.parametrize(("name", "file"), published())
def test_preset_says_what_the_published_file_says(name: str, file: str) -> None:
    original = json.loads((PUBLISHED / file).read_text())
    preset = presets.find_preset(name)
    assert preset is not None
    if name == "MiniMaxAI/MiniMax-M3":  # the file names an architecture that vLLM does not have
        text = preset.config["text_config"]
        shared = [key for key in original.keys() & text.keys() if SIZES.fullmatch(key)]
        assert len(shared) >= 9
        assert {key: text[key] for key in shared} == {key: original[key] for key in shared}
        return
    corrected = set(preset.source.partition("; corrected: ")[2].split(", "))
    assert_subset(preset.config, original, corrected)
    side = PUBLISHED / file.replace(".json", ".hf_quant_config.json")
    if side.exists():
        stated = {"producer": {"name": "modelopt"}, **json.loads(side.read_text())}
        assert same(preset.files["hf_quant_config.json"]) == same(stated)
    for whole, kept in (
        (original, preset.config),
        (original.get("text_config", {}), preset.config.get("text_config", {})),
    ):
        dropped = whole.keys() - kept.keys() - NO_SIZES
        assert not [key for key in dropped if SIZES.fullmatch(key)]


def same(side_file: dict[str, Any]) -> dict[str, Any]:
    inner = side_file["quantization"]
    names = inner.get("exclude_modules", [])
    return {**side_file, "quantization": {**inner, "exclude_modules": set(names)}}


def assert_subset(kept: Any, original: Any, corrected: set[str]) -> None:
    if isinstance(kept, dict):
        assert kept.keys() - corrected <= original.keys()
        for key in kept.keys() - corrected:
            assert_subset(kept[key], original[key], corrected)
    elif isinstance(kept, list) and kept and all(isinstance(item, str) for item in kept):
        assert sorted(kept) == sorted(set(original)) or kept == original
    elif isinstance(kept, list):
        assert len(kept) == len(original)
        for mine, theirs in zip(kept, original, strict=True):
            assert_subset(mine, theirs, corrected)
    else:
        assert kept == original


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("gpt2", "n_layer", 12),
        ("meta-llama/Llama-3.1-8B", "num_key_value_heads", 8),
        ("meta-llama/meta-llama-3.1-8b-instruct", "max_position_embeddings", 131072),
        ("mistralai/Mistral-7B-Instruct-v0.3", "sliding_window", None),
        ("mistralai/Mistral-7B-Instruct-v0.1", "sliding_window", 4096),
        ("Qwen/Qwen2.5-32B-Instruct", "max_position_embeddings", 32768),
        ("tiiuae/falcon-7b", "num_attention_heads", 71),
        ("deepseek-ai/DeepSeek-V3.2", "index_topk", 2048),
        ("deepseek-ai/DeepSeek-V2.5", "num_hidden_layers", 60),
    ],
)
def test_known_facts(name: str, key: str, value: Any) -> None:
    assert find_config(name, offline=True).config[key] == value


def test_siblings_merge_and_drop() -> None:
    awq = find_config("Qwen/Qwen2.5-Coder-7B-Instruct-AWQ", offline=True).config
    assert (awq["quantization_config"]["quant_method"], awq["hidden_size"]) == ("awq", 3584)
    vision = find_config("Qwen/Qwen2.5-VL-72B-Instruct", offline=True).config["vision_config"]
    assert (vision["out_hidden_size"], vision["depth"]) == (8192, 32)
    plain = find_config("Qwen/Qwen3-235B-A22B", offline=True).config
    assert "quantization_config" not in plain
    assert find_config("Qwen/Qwen3-235B-A22B-FP8", offline=True).config["quantization_config"]


# vLLM 0.33 itself finds no method in this one's config, and loads it as unquantised.
WITHOUT_METHOD = {"Qwen/Qwen3-32B-FP8-Static-PerTensor"}


@pytest.mark.parametrize("name", known_names())
def test_a_quantised_name_has_its_quantisation(name: str) -> None:
    found = find_config(name, offline=True)
    named = named_quantization(name, found.with_quantization)
    assert (named is not None) == (name in WITHOUT_METHOD)


def test_aliases_point_to_bundled_models() -> None:
    for alias, name in presets.known_aliases().items():
        assert alias == alias.lower()
        assert name in known_names()
        assert find_config(alias.upper(), offline=True).id == name


def test_no_answer_for_part_of_a_name() -> None:
    for name in ("", "openai-community", 'gpt2",', "gpt2\n", "Qwen/Qwen3", "\\", "é"):
        assert presets.find_preset(name) is None


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("lm_head", ["lm_head"]),
        ("a.{0-2}.b*", ["a.0.b*", "a.1.b*", "a.2.b*"]),
        ("{x,y-z}", ["x", "y-z"]),
        ("l.{1,3-4}{.q,.k}", ["l.1.q", "l.1.k", "l.3.q", "l.3.k", "l.4.q", "l.4.k"]),
    ],
)
def test_patterns(pattern: str, names: list[str]) -> None:
    assert list(presets.expand_name(pattern)) == names


def test_finding_a_preset_imports_little() -> None:
    code = (
        "import sys; from vllm_kv_planner.config.find import find_config; find_config('gpt2');"
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in "
        "('urllib', 'difflib', 'pathlib', 'http', 'ssl', 'socket', 'email', 'tempfile',"
        " 'subprocess', 'logging', 'importlib.resources', 'transformers', 'torch')))"
    )
    environment = {**os.environ, "HF_HOME": "/nonexistent"}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
        env=environment,
    )
    assert done.stdout.strip() == ""


# Defaults of the config classes


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("gemma3_text", {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}),
        ("llama", {"num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096}),
        ("mistral", {"sliding_window": 4096, "num_key_value_heads": 8}),
        ("clip_vision_model", {"patch_size": 32, "hidden_size": 768}),
        ("llava", {"text_config": {"model_type": "llama"}}),
        ("chatglm", {"kv_channels": 128, "num_layers": 28}),
    ],
)
def test_defaults(model_type: str, expected: dict[str, Any]) -> None:
    defaults = defaults_for(model_type)
    assert {key: defaults[key] for key in expected} == expected


def test_derived_values_are_not_defaults() -> None:
    # Llama's class sets these from the head count and width of the config at hand.
    assert not {"num_key_value_heads", "head_dim"} & defaults_for("llama").keys()


@pytest.mark.parametrize("model_type", ["", "nobody", "x" * 10_000, "llama\n", '"'])
def test_unknown_model_types_have_no_defaults(model_type: str) -> None:
    assert defaults_for(model_type) == {}
