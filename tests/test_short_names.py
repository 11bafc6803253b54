"""Models by repository name alone, and what is suggested where nobody knows one."""

from __future__ import annotations

import pytest

from vllm_kv_planner.errors import UnknownNameError
from vllm_kv_planner.model import presets
from vllm_kv_planner.model.find import find_config
from vllm_kv_planner.model.nearest import nearest_models


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
    assert (found.id, found.source) == (model, "bundled")


def test_a_name_of_two_owners_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "_with_owner", lambda name: [f"a/{name}", f"b/{name}"])
    with pytest.raises(UnknownNameError, match="not one model: a/xyz or b/xyz"):
        find_config("xyz", offline=True)


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
