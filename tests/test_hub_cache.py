"""What the Hub answered is kept, and a bundled config stands in where it does not answer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import BRANCH_COMMIT, COMMIT, Hub, running_raw_server
from vllm_kv_planner import plan
from vllm_kv_planner.cli import main
from vllm_kv_planner.config import online
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.errors import ConfigError

pytest_plugins = ["tests.hub_fixtures"]
pytestmark = pytest.mark.usefixtures("own_home")

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2}
GPT2 = "openai-community/gpt2"


def test_the_answer_is_found_in_the_cache_next_time(the_hub: Hub, own_home: Path) -> None:
    the_hub.add("org/m-FP8", LLAMA)
    the_hub.add("org/m-FP8", {"quantization": {}}, file="hf_quant_config.json")
    assert find_config("org/m-FP8").source == "hub"
    asked = len(the_hub.asked)
    assert asked == 3
    online.forget()  # another process
    found = find_config("org/m-FP8")
    assert (found.config, found.source, found.revision) == (LLAMA, "hf-cache", COMMIT)
    assert found.files == {"hf_quant_config.json": {"quantization": {}}}
    assert find_config("org/m-FP8", offline=True) == found
    assert len(the_hub.asked) == asked
    repository = own_home / "hub" / "models--org--m-FP8"
    assert (repository / "refs" / "main").read_text() == COMMIT
    snapshot = repository / "snapshots" / COMMIT
    assert (snapshot / "config.json").resolve().parent == (repository / "blobs").resolve()
    assert not list(repository.rglob("*.part"))


def test_huggingface_hub_reads_what_was_kept(the_hub: Hub, own_home: Path) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    the_hub.add("org/m", LLAMA)
    find_config("org/m")
    asked = {"repo_id": "org/m", "cache_dir": own_home / "hub"}
    path = huggingface_hub.try_to_load_from_cache(filename="config.json", **asked)
    assert json.loads(Path(path).read_text()) == LLAMA
    missing = huggingface_hub.try_to_load_from_cache(filename="hf_quant_config.json", **asked)
    assert missing is huggingface_hub.file_download._CACHED_NO_EXIST


def test_within_a_process_nothing_is_asked_twice(the_hub: Hub, own_home: Path) -> None:
    own_home.write_text("")  # a file where the cache would be: nothing can be kept
    the_hub.add("org/m", LLAMA)
    assert [find_config("org/m").source for _ in range(3)] == ["hub"] * 3
    assert len(the_hub.asked) == 3


def test_a_revision_is_asked_about_once_more(the_hub: Hub) -> None:
    the_hub.add("org/m", LLAMA)
    find_config("org/m")
    online.forget()
    assert find_config("org/m", revision="main").source == "hf-cache"
    assert the_hub.not_changed == 1
    online.forget()
    the_hub.add("org/m", {**LLAMA, "num_hidden_layers": 3})
    assert find_config("org/m", revision="main").config["num_hidden_layers"] == 3
    asked = len(the_hub.asked)
    assert find_config("org/m", revision=COMMIT).source == "hf-cache"  # a commit does not change
    assert len(the_hub.asked) == asked


def test_a_branch_that_the_cache_knows_stays_where_it_points(the_hub: Hub, own_home: Path) -> None:
    """Weights of that commit may lie there, and be all that an offline machine has."""
    ref = own_home / "hub" / "models--org--m" / "refs" / "main"
    ref.parent.mkdir(parents=True)
    ref.write_text(BRANCH_COMMIT)
    the_hub.add("org/m", LLAMA)
    assert find_config("org/m").revision == COMMIT
    assert ref.read_text() == BRANCH_COMMIT


def test_without_links_the_file_itself_is_kept(
    the_hub: Hub, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError("a privilege is not held")

    monkeypatch.setattr(os, "symlink", refused)
    the_hub.add("org/m", LLAMA)
    find_config("org/m")
    file = own_home / "hub" / "models--org--m" / "snapshots" / COMMIT / "config.json"
    assert not file.is_symlink()
    assert find_config("org/m", offline=True).config == LLAMA


def test_a_cached_config_gets_the_quantization_its_name_promises(
    the_hub: Hub, own_home: Path
) -> None:
    snapshot = own_home / "hub" / "models--org--m-NVFP4" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(LLAMA))
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text(COMMIT)
    the_hub.add("org/m-NVFP4", {"quantization": {}}, file="hf_quant_config.json")
    assert find_config("org/m-NVFP4").files == {"hf_quant_config.json": {"quantization": {}}}
    assert len(the_hub.asked) == 1
    assert find_config("org/m-NVFP4", offline=True).files  # kept


# The Hub before a bundled config that is not confirmed, and that config where the Hub is silent


def test_the_hub_is_asked_before_a_preset_of_one_source(the_hub: Hub) -> None:
    the_hub.add("microsoft/phi-4", LLAMA)
    assert find_config("microsoft/phi-4").config == LLAMA
    assert find_config(GPT2).source == "bundled"  # two sources have the same file
    assert find_config("Qwen/Qwen3-8B").source == "bundled"
    assert {path.split("/resolve/")[0] for path, _ in the_hub.asked} == {"/microsoft/phi-4"}


def test_with_a_revision_the_hub_is_asked_before_any_preset(the_hub: Hub) -> None:
    the_hub.add(GPT2, LLAMA)
    assert find_config(GPT2, revision="main").config == LLAMA


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("google/gemma-3-27b-it", "bundled", "two sources agree on its sizes"),
        ("microsoft/phi-4", "bundled-one-source", "a copy of one source"),
        ("google/gemma-4-31B-it", "bundled-derived", "entered by hand, corrected or rebuilt"),
    ],
)
def test_a_preset_that_is_not_confirmed_says_so(
    name: str, source: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = find_config(name)
    assert (found.id, found.source) == (name, source)
    answer = plan(found, gpu="H200", planner="standalone", max_model_len=4096)
    assert answer.model.config_source == source
    note = next(note for note in answer.notes if said in note)
    assert note.startswith(f"{name}: bundled config") and "the Hub was not asked" in note
    assert not any("bundled" in note for note in plan(GPT2, gpu="L4").notes)


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_raw_server([]) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        for name in ("microsoft/phi-4", "google/gemma-4-31B-it", "microsoft/phi-4"):
            found = find_config(name)
            assert found.source.startswith("bundled-")
            assert "did not answer" in found.notes[0]
            assert "phi-4" not in found.notes[0] or name == "microsoft/phi-4"
        assert server.connections == 1


@pytest.mark.parametrize("gated", [False, True])
def test_a_hub_that_refuses_leaves_the_preset(gated: bool, the_hub: Hub) -> None:
    if gated:
        the_hub.gated.add("microsoft/phi-4")
    found = find_config("microsoft/phi-4")
    assert found.source == "bundled-one-source"
    assert len(the_hub.asked) == 1
    assert ("gated or private" if gated else "is not on the Hub") in found.notes[0]


def test_a_lora_repository_names_its_base(the_hub: Hub) -> None:
    adapter = {"base_model_name_or_path": "meta-llama/Llama-3.1-8B", "r": 16}
    the_hub.add("org/lora", adapter, file="adapter_config.json")
    with pytest.raises(
        ConfigError,
        match=r"LoRA adapter.*plan meta-llama/Llama-3\.1-8B with --enable-lora --max-lora-rank 16",
    ):
        find_config("org/lora")


def test_a_lora_repository_with_a_config(the_hub: Hub, capsys: Any) -> None:
    adapter = {"base_model_name_or_path": "Qwen/Qwen3-0.6B", "r": 32}
    config = find_config("Qwen/Qwen3-0.6B", offline=True).config
    the_hub.add("org/lora", config)
    the_hub.add("org/lora", adapter, file="adapter_config.json")
    for _ in range(2):  # asked of the Hub, then found in the cache
        found = find_config("org/lora")
        assert found.files == {"adapter_config.json": adapter}
        assert "plan Qwen/Qwen3-0.6B with --enable-lora --max-lora-rank 32" in found.notes[0]
        online.forget()
    assert found.source == "hf-cache"
    the_hub.add("org/other", adapter, file="adapter_config.json")
    flags = ["--enable-lora", "--lora-modules", "a=org/other"]
    assert main(["plan", "Qwen/Qwen3-0.6B", "--gpu", "H100", *flags]) == 2
    assert "LoRA rank 32 is greater than max_lora_rank 16" in capsys.readouterr().err


def test_weights_of_a_cached_config_are_read_from_the_hub(
    the_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache holds config.json alone, and no rule knows this architecture's weights."""
    the_hub.add("org/m", find_config("mosaicml/mpt-7b", offline=True).config)
    header = {
        f"transformer.blocks.{i}.w": {
            "dtype": "BF16",
            "shape": [512],
            "data_offsets": [1024 * i, 1024 * (i + 1)],
        }
        for i in range(32)
    }
    raw = json.dumps(header).encode()
    file = len(raw).to_bytes(8, "little") + raw + bytes(32 * 1024)
    the_hub.add("org/m", file, file="model.safetensors")
    find_config("org/m")
    online.forget()
    found = find_config("org/m")
    assert found.source == "hf-cache"
    assert plan(found, gpu="L4", vllm_version="0.28").memory.weights_bytes == 32 * 1024
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert plan(found, gpu="L4", vllm_version="0.28").memory.weights_bytes is None


def test_a_hub_that_is_gone_is_asked_once_about_quantization(own_home: Path) -> None:
    snapshot = own_home / "hub" / "models--org--m-FP8" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(LLAMA))
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text(COMMIT)
    assert online.silence() is None
    assert find_config("org/m-FP8").files == {}
    assert "did not answer" in (online.silence() or "")
    assert find_config("org/m-FP8").files == {}
