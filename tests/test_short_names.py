"""Models by repository name alone, and what is suggested where nobody knows one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.hub_server import Hub
from vllm_kv_planner.cli import main
from vllm_kv_planner.config import presets
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.config.presets import nearest_models
from vllm_kv_planner.errors import ConfigError, InputError, UnknownNameError

pytest_plugins = ["tests.hub_fixtures"]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("qwen3-32b", "Qwen/Qwen3-32B"),
        ("deepseek-v3", "deepseek-ai/DeepSeek-V3"),
        ("DeepSeek-V3", "deepseek-ai/DeepSeek-V3"),
        ("Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B"),  # the id before it was renamed
        ("llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("gpt2", "openai-community/gpt2"),
    ],
)
def test_the_owner_may_be_left_out(name: str, model: str) -> None:
    found = find_config(name, offline=True)
    assert found.id == model
    assert found.source.startswith("bundled")
    said = any(f"is planned as {model}, its name on the Hub" in note for note in found.notes)
    assert said == (name != "gpt2")  # which the Hub itself leads there from


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("meta-llama/Llama-3-8B-Instruct", "meta-llama/Meta-Llama-3-8B-Instruct"),
        ("meta/llama-3.3-70b", "meta-llama/Llama-3.3-70B-Instruct"),
        ("llama3.1:8b", "meta-llama/Meta-Llama-3.1-8B"),
        ("Llama 3.1 8B Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("qwen3_8b", "Qwen/Qwen3-8B"),
        ("Qwen/Qwen-3-8B", "Qwen/Qwen3-8B"),
        ("gemma3-27b", "google/gemma-3-27b-it"),  # and -pt, whose config is the same
        ("llama2-7b", "meta-llama/Llama-2-7b-hf"),
        ("mixtral-8x7b", "mistralai/Mixtral-8x7B-v0.1"),
        ("phi4mini", "microsoft/Phi-4-mini-instruct"),
        ("granite-3.3-8b", "ibm-granite/granite-3.3-8b-instruct"),
        ("meta-llama/Meta-Llama-3.3-70B-Instruct", "meta-llama/Llama-3.3-70B-Instruct"),
        ("Qwen/Qwen3-8B-Instruct", "Qwen/Qwen3-8B"),
        ("Qwen/Qwen3-30B-A3B-Instruct", "Qwen/Qwen3-30B-A3B-Instruct-2507"),
        ("qwen3:30b", "Qwen/Qwen3-30B-A3B"),
        ("Qwen/Qwen3-Coder-30B", "Qwen/Qwen3-Coder-30B-A3B-Instruct"),
        ("Qwen/Qwen2-7B-Chat", "Qwen/Qwen2-7B-Instruct"),
        ("google/gemma-2-9b-instruct", "google/gemma-2-9b-it"),
        (
            "mistralai/Mistral-Small-3.1-24B-Instruct",
            "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
        ),
        ("mistral-nemo", "mistralai/Mistral-Nemo-Instruct-2407"),
        ("kimi-k2", "moonshotai/Kimi-K2-Instruct"),
        ("THUDM/GLM-4.5", "zai-org/GLM-4.5"),
        ("unsloth/Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("meta-llama/Llama-4-Scout", "meta-llama/Llama-4-Scout-17B-16E-Instruct"),
        ("deepseek-r1:70b", "deepseek-ai/DeepSeek-R1-Distill-Llama-70B"),
    ],
)
def test_names_that_people_use(name: str, model: str) -> None:
    found = find_config(name, offline=True)
    assert found.id == model
    assert f"is planned as {model}" in found.notes[0]


@pytest.mark.parametrize(
    "name",
    [
        *("llama-3", "qwen38b", "someone/Llama-3.1-8B-Instruct", "whisper", "deepseek-r1:8b"),
        *("llama-3.18b", "gemma-3", "8b", "-", "instruct", "Qwen/Qwen3-8B-Instruct-2507"),
        *("unsloth/Qwen3-8B-FP8", "mistralai/Devstral-Small-2507", "Qwen/Qwen3-30B-A22B"),
    ],
)
def test_no_other_name_is_guessed(name: str) -> None:
    with pytest.raises(InputError):
        find_config(name, offline=True)


def test_a_name_of_models_that_differ_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"not one model: .*-v0\.1 or .*-v0\.3 or .*v0\.2\?"):
        find_config("mistral-7b", offline=True)


def test_a_repository_of_that_very_name_comes_first(own_home: Path, the_hub: Hub) -> None:
    llama = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    the_hub.add("meta-llama/Llama-3-8B-Instruct", llama)
    assert find_config("meta-llama/Llama-3-8B-Instruct").config == llama
    found = find_config("Qwen/Qwen-3-8B")  # asked for, and not there
    assert (found.id, found.source) == ("Qwen/Qwen3-8B", "bundled")


# Addresses, object stores, other formats


@pytest.mark.parametrize(
    ("address", "revision"),
    [
        ("https://huggingface.co/org/m", "main"),
        ("https://huggingface.co/org/m/", "main"),
        ("http://hf.co/org/m?library=vllm", "main"),
        ("https://huggingface.co/org/m/tree/v2", "v2"),
        ("https://huggingface.co/org/m/blob/v2/config.json", "v2"),
        ("{hub}/org/m/resolve/v2/config.json", "v2"),
        ("hf://org/m", "main"),
        ("hf://org/m@v2", "v2"),
        ("hf://org/m/tree/v2/", "v2"),
        ("hf://models/org/m/config.json", "main"),
        ("huggingface.co/org/m/tree/v2", "v2"),
        ("https://huggingface.co/api/models/org/m", "main"),
        ("https://huggingface.co/org/m/discussions/1", "main"),
        ("org/m/", "main"),
        ("org/m@v2", "v2"),
        ("org/m/resolve/v2/config.json", "v2"),
        (" org/m", "main"),
    ],
)
def test_addresses_on_the_hub(address: str, revision: str, own_home: Path, the_hub: Hub) -> None:
    the_hub.add("org/m", {"of": "main"})
    the_hub.add("org/m", {"of": "v2"}, revision="v2")
    found = find_config(address.format(hub=the_hub.url))
    assert (found.id, found.config) == ("org/m", {"of": revision})
    said = "the address names v2: vLLM takes it as --revision v2"
    assert (said in found.notes) == (revision == "v2")


def test_an_address_and_another_revision() -> None:
    with pytest.raises(ConfigError, match="--revision v1, but the address names v2"):
        find_config("https://huggingface.co/org/m/tree/v2", revision="v1", offline=True)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("s3://bucket/model", "s3:// is not read; give the model's Hub id"),
        ("gs://bucket/model", "gs:// is not read"),
        ("https://example.com/org/m", "not the address of a model on the Hub"),
        ("https://huggingface.co/datasets/org/m", "a data set, not a model on the Hub"),
        ("hf://datasets/org/m", "a data set, not a model on the Hub"),
        ("https://huggingface.co/org/m/tree/main/fp16", "fp16 is not a page of a model"),
        ("https://huggingface.co/", "not a model on the Hub"),
        ("C:\\models\\m", "no such file or folder"),
        ("Qwen/Qwen3-8B-GGUF", "loads no GGUF file; give the model that it was made from"),
        ("unsloth/Qwen3-8B-GGUF:Q4_K_M", "loads no GGUF file"),
    ],
)
def test_what_is_not_read_says_what_is(reference: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        find_config(reference, offline=True)


def test_folders_of_other_formats(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    for reference in (tmp_path, tmp_path / "m.gguf"):
        with pytest.raises(ConfigError, match="loads no GGUF file"):
            find_config(str(reference))
    adapter = {"base_model_name_or_path": "meta-llama/Llama-3.1-8B", "r": 8}
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(ConfigError, match=r"plan meta-llama/Llama-3\.1-8B with --enable-lora"):
        find_config(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert find_config(str(tmp_path)).files == {"adapter_config.json": adapter}


@pytest.mark.parametrize("model", ["/mnt/models", "s3://bucket/m", "./m.gguf", "org/nobody-knows"])
def test_a_pasted_command_whose_model_is_elsewhere(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pasted = ["--", "vllm", "serve", model, "--max-model-len", "4096"]
    assert main(["plan", "--gpu", "L4", *pasted]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "--model ID before the -- says which model it is" in said.err
    assert main(["plan", "--gpu", "L4", "--model", "Qwen/Qwen3-8B", *pasted]) == 0
    assert f"{model} is planned as Qwen/Qwen3-8B, as --model says" in capsys.readouterr().out


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(presets.known_names())
    assert main(["models", "GEMMA", "4-31b"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    name, architecture, certainty = line.split()
    assert name == "google/gemma-4-31B-it"
    assert (architecture, certainty) == ("Gemma4ForConditionalGeneration", "derived")
    assert main(["models", "gemma9"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "did you mean google/gemma-2-9b" in said.err


def test_patterns_in_names_are_no_patterns() -> None:
    assert presets.find_preset("qwen3-..b") is None
    assert presets.find_preset("") is None


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("gemma3-27b", "google/gemma-3-27b-it"),
        ("llama2", "meta-llama/Llama-2-7b-hf"),
        ("mixtral-8x7b", "mistralai/Mixtral-8x7B-v0.1"),
        ("Qwen/Qwen3_8B", "Qwen/Qwen3-8B"),
        ("someone/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
    ],
)
def test_the_nearest_name_comes_first(name: str, first: str) -> None:
    assert nearest_models(name)[0] == first


def test_nothing_is_like_nonsense() -> None:
    assert nearest_models("zzzzzzzzzzzz") == []


def test_main_is_the_revision_presets_stand_for() -> None:
    assert find_config("openai/gpt-oss-20b", revision="main", offline=True).source == "bundled"
    with pytest.raises(UnknownNameError):
        find_config("openai/gpt-oss-20b", revision="v2", offline=True)


@pytest.mark.parametrize(
    "command",
    [
        ["plan", "--max-model-len", "4096"],
        ["fit", "--context", "4K", "--concurrency", "1"],
        ["compare", "gpt2"],
        ["paging"],
    ],
)
def test_every_command_says_what_a_name_is_planned_as(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command[0], "phi4mini", *command[1:], "--gpu", "H100"]) == 0
    said = capsys.readouterr().out
    assert "note: phi4mini is planned as microsoft/Phi-4-mini-instruct" in said
    assert "microsoft/Phi-4-mini-instruct: bundled config, entered by hand" in said
