"""Where a model's config is found: real folders, a real cache layout, a real HTTP server."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import BRANCH_COMMIT, COMMIT, TOKEN, Hub, running_hub
from vllm_kv_planner.errors import ConfigError, InputError, UnknownNameError
from vllm_kv_planner.model import hub
from vllm_kv_planner.model.find import find_config, known_names

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2}
GPT2 = "openai-community/gpt2"


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No test sees the user's cache, token, proxy or network."""
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home = tmp_path / "hf-home"
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def the_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


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
    (tmp_path / "m" / "params.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"Mistral's format.*needs the model's config\.json"):
        find_config("m")


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
        find_config("qwen/Qwen-3-8B", offline=True)
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


# The Hub


def test_hub(the_hub: Hub) -> None:
    the_hub.add("org/m", LLAMA)
    found = find_config("org/m")
    assert (found.id, found.config, found.source) == ("org/m", LLAMA, "hub")
    assert (found.revision, found.path) == (COMMIT, None)
    # Beside config.json, the one file that can matter, at the same commit.
    assert [path for path, _ in the_hub.asked] == [
        "/org/m/resolve/main/config.json",
        f"/org/m/resolve/{COMMIT}/hf_quant_config.json",
    ]


def test_hub_side_file(the_hub: Hub) -> None:
    the_hub.add("org/m", LLAMA)
    the_hub.add("org/m", {"quantization": {}}, file="hf_quant_config.json")
    assert find_config("org/m").files == {"hf_quant_config.json": {"quantization": {}}}


def test_hub_revision(the_hub: Hub) -> None:
    the_hub.add(GPT2, LLAMA)
    the_hub.add(GPT2, {"branch": 1}, revision="refs/pr/1")
    found = find_config("gpt2", revision="refs/pr/1")
    assert (found.config, found.source, found.revision) == ({"branch": 1}, "hub", BRANCH_COMMIT)
    assert the_hub.asked[0][0] == f"/{GPT2}/resolve/refs%2Fpr%2F1/config.json"
    with pytest.raises(ConfigError, match="has no revision v9 on the Hub"):
        find_config("gpt2", revision="v9")


@pytest.mark.parametrize("revision", ["", "../x", "a\nb", "-x", "/x", "x" * 9 + "?y"])
def test_revisions_that_are_none(the_hub: Hub, revision: str) -> None:
    with pytest.raises(ConfigError, match="not a branch, tag or commit hash"):
        find_config(GPT2, revision=revision)
    assert not the_hub.asked


def test_gated(the_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    the_hub.add("gated/m", LLAMA)
    with pytest.raises(ConfigError, match="gated or private on the Hub: set HF_TOKEN"):
        find_config("gated/m")
    monkeypatch.setenv("HF_TOKEN", TOKEN + "\n")
    assert find_config("gated/m").source == "hub"
    with pytest.raises(ConfigError, match="the token in HF_TOKEN has no access") as caught:
        find_config("refused/m")
    assert TOKEN not in str(caught.value)


def test_token_files(
    the_hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_home: Path
) -> None:
    the_hub.add("gated/m", LLAMA)
    own_home.mkdir()
    (own_home / "token").write_text(TOKEN)
    assert find_config("gated/m").source == "hub"
    (tmp_path / "mine").write_text(TOKEN + "\n")
    (own_home / "token").unlink()
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "mine"))
    assert find_config("gated/m").source == "hub"


def test_token_that_would_break_the_header(the_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret\nX-Other: 1")
    with pytest.raises(ConfigError, match="HF_TOKEN holds characters") as caught:
        find_config("org/m")
    assert "secret" not in str(caught.value)
    assert not the_hub.asked


def test_redirects(the_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    the_hub.add("org/m", {**LLAMA, "quantization_config": {}})
    assert find_config("renamed/m").source == "hub"
    # The same host after a rename still needs the token; another host must never see it.
    assert {header for _, header in the_hub.asked} == {f"Bearer {TOKEN}"}
    with running_hub() as other:
        other.add("org/m", {**LLAMA, "quantization_config": {}})
        the_hub.elsewhere = other.url
        assert find_config("away/m").source == "hub"
        assert [header for _, header in other.asked] == [None]


@pytest.mark.parametrize("target", ["file:///etc", "ftp://127.0.0.1", "data:text/plain,x"])
def test_redirect_out_of_http(the_hub: Hub, target: str) -> None:
    the_hub.elsewhere = target
    with pytest.raises(ConfigError) as caught:
        find_config("away/m")
    assert "\n" not in str(caught.value)


def test_redirect_loop(the_hub: Hub) -> None:
    with pytest.raises(ConfigError, match="answered HTTP 307"):
        find_config("loop/m")
    assert len(the_hub.asked) < 10


def test_unknown_on_the_hub_names_the_nearest(the_hub: Hub) -> None:
    with pytest.raises(UnknownNameError, match=r"not on the Hub.*did you mean Qwen/Qwen3-8B"):
        find_config("Qwen/Qwen-3-8B")


def test_repository_without_config(the_hub: Hub) -> None:
    the_hub.add("org/m", {}, file="params.json")
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        find_config("org/m")


def test_server_error(the_hub: Hub) -> None:
    with pytest.raises(ConfigError, match="answered HTTP 500"):
        find_config("broken/m")


def test_answer_that_is_no_config(the_hub: Hub) -> None:
    the_hub.add("org/m", b"<html>please log in</html>")
    with pytest.raises(ConfigError, match=r"org/m's config\.json on the Hub: not valid JSON"):
        find_config("org/m")


def test_endless_answer_is_cut(the_hub: Hub) -> None:
    with pytest.raises(ConfigError, match="larger than 10 MB"):
        find_config("huge/m")


def test_silent_server_is_given_up_on(the_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "WAIT_SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(ConfigError, match="did not answer"):
        find_config("slow/m")
    assert time.monotonic() - start < 3


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(ConfigError, match=r"127\.0\.0\.1:\d+ did not answer") as caught:
            find_config("org/m")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["ftp://host", "file:///etc", "host", "http://me:pw@host"])
def test_endpoints_that_are_none(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(ConfigError, match="HF_ENDPOINT must be an address") as caught:
        find_config("org/m")
    assert "pw" not in str(caught.value)


def test_known_names_are_found() -> None:
    names = known_names()
    assert names == sorted(names, key=str.lower)
    assert GPT2 in names
