"""Where a model's config is found: real folders, a real cache layout, the bundled models."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import BRANCH_COMMIT, COMMIT, Hub
from vllm_kv_planner import plan
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.config.presets import known_names
from vllm_kv_planner.errors import ConfigError, InputError, UnknownNameError

pytest_plugins = ["tests.hub_fixtures"]
pytestmark = pytest.mark.usefixtures("own_home")

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2}
GPT2 = "openai-community/gpt2"


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def cache(home: Path, repo: str, config: Any, commit: str = COMMIT, ref: str = "main") -> Path:
    """A repository in the cache, laid out as huggingface_hub does: blobs, links, refs."""
    folder = home / "hub" / ("models--" + repo.replace("/", "--"))
    blob = write_json(folder / "blobs" / ("b" + commit[1:]), config)
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to(os.path.relpath(blob, snapshot))
    (folder / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / ref).write_text(commit)
    return snapshot


# Local paths


def test_folder(tmp_path: Path) -> None:
    write_json(tmp_path / "m" / "config.json", LLAMA)
    found = find_config(str(tmp_path / "m"))
    assert (found.config, found.source, found.revision) == (LLAMA, "local", None)
    assert found.id == str(tmp_path / "m")
    assert found.path == str(tmp_path / "m" / "config.json")


def test_file_of_any_name(tmp_path: Path) -> None:
    write_json(tmp_path / "my model.json", LLAMA)
    assert find_config("./my model.json").config == LLAMA
    write_json(tmp_path / "plain", LLAMA)
    assert find_config("plain").source == "local"


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_json(tmp_path / "m" / "config.json", LLAMA)
    assert find_config("~/m").config == LLAMA


def test_a_folder_wins_over_the_bundled_model_of_that_name(tmp_path: Path) -> None:
    write_json(tmp_path / "gpt2" / "config.json", LLAMA)
    assert find_config("gpt2").source == "local"


def test_modelopt_side_file_is_read(tmp_path: Path) -> None:
    quantization = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    write_json(tmp_path / "m" / "config.json", LLAMA)
    write_json(tmp_path / "m" / "hf_quant_config.json", quantization)
    assert find_config("m").files == {"hf_quant_config.json": quantization}


def test_broken_side_file_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "m" / "config.json", LLAMA)
    (tmp_path / "m" / "hf_quant_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"hf_quant_config\.json: not valid JSON"):
        find_config("m")


@pytest.mark.parametrize("reference", ["./nowhere", "../nowhere", "/no/where", "x.json", "~/no"])
def test_missing_path(reference: str) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        find_config(reference)


def test_folder_without_config(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        find_config("m")


# As vLLM 0.33's adapt_config_dict makes a config of them
PARAMS = {
    **{"dim": 4096, "n_layers": 36, "head_dim": 128, "hidden_dim": 12288, "n_heads": 32},
    **{"n_kv_heads": 8, "norm_eps": 1e-5, "vocab_size": 131072, "rope_theta": 1e8},
    **{"max_position_embeddings": 32768, "sliding_window": [None, 4096, 4096, 4096]},
}


def test_params_of_mistrals_format(tmp_path: Path) -> None:
    write_json(tmp_path / "m" / "params.json", PARAMS)
    found = find_config("m")
    assert found.config["architectures"] == ["MistralForCausalLM"]
    assert "bfloat16 taken" in found.notes[0]
    answer = plan(found, gpu="H100", planner="standalone", max_model_len=16384)
    groups = {(g.num_layers, g.page_size_bytes) for g in answer.kv_cache.groups}
    assert groups == {(9, 16 * 2 * 8 * 128 * 2)}  # 9 of 36 see everything, 27 a window
    assert answer.memory.weights_bytes == pytest.approx(2 * 8.02e9, rel=0.02)
    quantized = {**PARAMS, "quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}}
    write_json(tmp_path / "m" / "params.json", quantized)
    assert plan("m", gpu="H100", max_model_len=4096).engine.quantization == "fp8"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"moe": {"num_experts": 8}}, "experts.*give its Hub id"),
        ({"vision_encoder": {"hidden_size": 1024}}, "images.*give its Hub id"),
        ({"qk_nope_head_dim": 128}, "latent attention"),
        ({"model_type": "mamba"}, "mamba"),
        ({"sliding_window": [1, 2]}, "sliding_window a list of 2 is not read"),
        ({"quantization": {"qformat_weight": "int4"}}, "quantization an object is not known"),
    ],
)
def test_params_that_are_not_read(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    write_json(tmp_path / "m" / "params.json", {**PARAMS, **more})
    with pytest.raises(InputError, match=said):
        find_config("m")


def test_params_on_the_hub(the_hub: Hub) -> None:
    the_hub.add("mistralai/m", PARAMS, file="params.json")
    assert find_config("mistralai/m").config["num_key_value_heads"] == 8


# The Hugging Face cache


def test_cache_is_asked_before_the_presets(own_home: Path) -> None:
    cache(own_home, GPT2, LLAMA)
    found = find_config(GPT2)
    assert (found.config, found.source, found.revision) == (LLAMA, "hf-cache", COMMIT)


def test_short_name_finds_the_full_one_in_the_cache(own_home: Path) -> None:
    cache(own_home, GPT2, LLAMA)
    found = find_config("gpt2")
    assert (found.id, found.source) == (GPT2, "hf-cache")


def test_short_name_as_cached_long_ago(own_home: Path) -> None:
    cache(own_home, "gpt2", LLAMA)
    assert find_config("gpt2").source == "hf-cache"


def test_revisions_in_the_cache(own_home: Path) -> None:
    cache(own_home, "org/m", {"main": 1})
    cache(own_home, "org/m", {"branch": 1}, commit=BRANCH_COMMIT, ref="refs/pr/1")
    assert find_config("org/m").config == {"main": 1}
    assert find_config("org/m", revision="refs/pr/1").config == {"branch": 1}
    assert find_config("org/m", revision=BRANCH_COMMIT).revision == BRANCH_COMMIT


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("HF_HUB_CACHE", "hub"),
        ("HUGGINGFACE_HUB_CACHE", "hub"),
        ("HF_HOME", ""),
        ("XDG_CACHE_HOME", ".."),
    ],
)
def test_where_the_cache_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, folder: str
) -> None:
    home = tmp_path / "elsewhere" / "huggingface"
    cache(home, "org/m", LLAMA)
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv(variable, str(home / folder))
    assert find_config("org/m").source == "hf-cache"


def test_snapshot_without_config_is_no_hit(own_home: Path) -> None:
    (cache(own_home, GPT2, LLAMA) / "config.json").unlink()
    assert find_config(GPT2).source == "bundled"


@pytest.mark.parametrize("ref", ["", "../../../../secret", "\xff\xfe", "x" * 10_000])
def test_strange_refs_are_no_hit(own_home: Path, ref: str) -> None:
    folder = own_home / "hub" / "models--openai-community--gpt2"
    cache(own_home, GPT2, LLAMA)
    (folder / "refs" / "main").write_bytes(ref.encode("latin-1"))
    assert find_config(GPT2).source == "bundled"


# Presets, offline


def test_bundled_model_needs_no_network() -> None:
    found = find_config("gpt2")
    assert (found.id, found.source, found.revision, found.path) == (GPT2, "bundled", None, None)
    assert found.config["n_layer"] == 12


def test_a_revision_is_not_answered_from_presets() -> None:
    with pytest.raises(UnknownNameError, match="gpt2 at revision v2 is not cached") as caught:
        find_config(GPT2, revision="v2", offline=True)
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_variables(monkeypatch: pytest.MonkeyPatch, the_hub: Hub, variable: str) -> None:
    the_hub.add("org/m", LLAMA)
    monkeypatch.setenv(variable, "yes")
    with pytest.raises(UnknownNameError, match="offline the Hub is not asked"):
        find_config("org/m")
    assert not the_hub.asked
    assert find_config("org/m", offline=False).source == "hub"


def test_unknown_name_offline_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean Qwen/Qwen3-8B") as caught:
        find_config("qwen/Qwenn3-8B", offline=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(UnknownNameError, match="openai-community/gpt2"):
        find_config("gpt22", offline=True)


@pytest.mark.parametrize(
    "reference", ["", "a b", "a/b/c", "-x", "..", "a\0b", "a\x1b[31mb", "é" * 9]
)
def test_not_a_model_at_all(reference: str) -> None:
    with pytest.raises(InputError) as caught:
        find_config(reference, offline=True)
    assert str(caught.value).isprintable()


def test_long_names_are_cut_in_messages() -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_config("x" * 100_000, offline=True)
    assert len(str(caught.value)) < 300


def test_known_names_are_found() -> None:
    names = known_names()
    assert names == sorted(names, key=str.lower)
    assert GPT2 in names


def test_a_bundled_config_is_found_without_comparing_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Naming the nearest models costs more than a plan; nobody asked for it here."""
    from vllm_kv_planner.config import presets

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    asked: list[str] = []
    monkeypatch.setattr(presets, "nearest_models", lambda name: asked.append(name) or [])
    assert find_config("meta-llama/Llama-3.1-8B-Instruct").source.startswith("bundled")
    assert asked == []
    with pytest.raises(UnknownNameError):
        find_config("nobody/no-such-model")
    assert asked == ["nobody/no-such-model"]
