"""What the Hub answers, and what is done when it does not: over real HTTP on 127.0.0.1."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.hub_server import BRANCH_COMMIT, COMMIT, TOKEN, Hub, running_hub
from vllm_kv_planner.errors import ConfigError, UnknownNameError
from vllm_kv_planner.model import hub
from vllm_kv_planner.model.find import find_config

pytest_plugins = ["tests.hub_fixtures"]
pytestmark = pytest.mark.usefixtures("own_home")

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2}
GPT2 = "openai-community/gpt2"


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
