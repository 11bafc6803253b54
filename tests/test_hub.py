"""What the Hub answers, and what is done when it does not: over real HTTP on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from tests.hub_server import BRANCH_COMMIT, COMMIT, TOKEN, Hub, running_hub, running_raw_server
from tests.work import bytes_in
from vllm_kv_planner.config import exchange, hub
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.errors import ConfigError, UnknownNameError
from vllm_kv_planner.memory.weights.headers import INDEX_FILE, hub_headers

pytest_plugins = ["tests.hub_fixtures"]
pytestmark = pytest.mark.usefixtures("own_home")

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2}
GPT2 = "openai-community/gpt2"


def test_hub(the_hub: Hub) -> None:
    the_hub.add("org/m", LLAMA)
    found = find_config("org/m")
    assert (found.id, found.config, found.source) == ("org/m", LLAMA, "hub")
    assert (found.revision, found.path) == (COMMIT, None)
    # Beside config.json, the files that can matter, at the same commit.
    assert [path for path, _ in the_hub.asked] == [
        "/org/m/resolve/main/config.json",
        f"/org/m/resolve/{COMMIT}/hf_quant_config.json",
        f"/org/m/resolve/{COMMIT}/adapter_config.json",
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
    the_hub.add("gated/other", LLAMA)
    assert find_config("gated/other").source == "hub"


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
        assert {header for _, header in other.asked} == {None}


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
        find_config("Qwen/Qwenn3-8B")


def test_repository_without_config(the_hub: Hub) -> None:
    the_hub.add("org/m", {}, file="other.json")
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
    monkeypatch.setattr(exchange, "WAIT_SECONDS", 0.3)
    with pytest.raises(ConfigError, match="did not answer"):
        find_config("slow/m")
    # It sends nothing for a minute; whoever waited for it would see it end, and read no config.
    assert not the_hub.closing.is_set()
    assert len(the_hub.asked) == 1


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "a header": (OK + b"X-Header: ", b"x"),
    "headers": (OK, b"X-Header: x\r\n"),
    "interim responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers of an interim response": (b"HTTP/1.1 100 Continue\r\n", b"X-Header: x\r\n"),
    "a body": (OK + b"\r\n", b" "),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
    "a chunk's extension": (CHUNKED + b"1;", b"x"),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-Header: x\r\n"),
    "the body of a redirect": (b"HTTP/1.1 307 Moved\r\nLocation: /x\r\n\r\n", b" "),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_server_that_drips_is_given_up_on(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, the whole never does: 20,000 pieces would take 200 s."""
    monkeypatch.setattr(exchange, "EXCHANGE_SECONDS", 0.5)
    first, more = ENDLESS[kind]
    with running_raw_server([first, *[more] * 20_000], pause=0.01) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises(ConfigError, match="did not answer") as caught:
            find_config("org/m")
        assert server.pieces < 2000
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", ["307 Moved", "404 Gone", "200 OK"])
@pytest.mark.parametrize(
    "promise",
    ["Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n", f"Content-Length: {10**13}\r\n\r\n"],
)
def test_no_room_is_made_for_what_a_length_promises(
    status: str, promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terabyte: found by ``benchmarks/fuzz_inputs.py``, as a MemoryError out of urllib."""
    head = f"HTTP/1.1 {status}\r\nLocation: /x\r\n{promise}"
    with running_raw_server([head.encode(), b"{"]) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)

        def asked() -> None:
            with pytest.raises((ConfigError, UnknownNameError)):
                find_config("org/m")

        assert bytes_in(asked) < 5_000_000


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_server_that_floods_is_cut(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_FILE_BYTES", 1_000_000)
    first, more = ENDLESS[kind]
    piece = more * (100_000 // len(more))
    with running_raw_server([first, *[piece] * 2000]) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises(ConfigError) as caught:
            find_config("org/m")
        assert (
            server.sent < 20_000_000
        )  # of 200 MB: twice a file and headers, and what sockets buffer
    assert "\n" not in str(caught.value)


@pytest.fixture
def certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """Of a server on 127.0.0.1, trusted by whoever reads ``SSL_CERT_FILE``."""
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    subprocess.run([*made, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate"))
    return context


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_https(certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_hub(certificate) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.add("org/m", LLAMA)
        assert find_config("org/m").source == "hub"
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(ConfigError, match="certificate verify failed"):
            find_config("org/n")
        assert {path.split("/")[2] for path, _ in server.asked} == {"m"}


def test_a_tls_handshake_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "WAIT_SECONDS", 0.3)
    with running_raw_server([b""] * 20_000, pause=0.01) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url.replace("http", "https"))
        with pytest.raises(ConfigError, match="did not answer"):
            find_config("org/m")
        assert server.pieces < 2000


def test_a_proxy_whose_answer_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "EXCHANGE_SECONDS", 0.5)
    with running_raw_server([OK, *[b"X-Header: x\r\n"] * 20_000], pause=0.01) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("HF_ENDPOINT", "https://a-name.invalid")
        with pytest.raises(ConfigError, match="it took more than"):
            find_config("org/m")
        assert 0 < proxy.pieces < 2000


def test_all_files_of_a_model_have_one_deadline(
    the_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MODEL_SECONDS", 0.5)
    names = [f"model-{i:05}.safetensors" for i in range(400)]
    the_hub.add("drip/m", {"weight_map": {name: name for name in names}}, INDEX_FILE)
    header = b'{"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}'
    for name in names:
        the_hub.add("drip/m", len(header).to_bytes(8, "little") + header, name)
    with pytest.raises(ConfigError, match=r"the model's files took more than 0\.5 s"):
        hub_headers("drip/m")
    assert 1 < len(the_hub.asked) < 100  # each takes 0.05 s


def test_a_mirror_that_says_404_and_no_more(the_hub: Hub) -> None:
    """Before any file came, the repository may be missing; after, only this file is."""
    the_hub.gives_reasons = False
    the_hub.add("org/m", LLAMA)
    assert find_config("org/m").files == {}
    assert hub_headers("org/m") is None
    with pytest.raises(UnknownNameError, match="is not on the Hub"):
        find_config("org/other")


def test_a_name_that_is_not_found_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def look_up(*_: object) -> None:
        asked.set()
        threading.Event().wait(60)

    monkeypatch.setattr(exchange, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setenv("HF_ENDPOINT", "http://a-name.invalid")
    with pytest.raises(ConfigError, match="looking up its name timed out"):
        find_config("org/m")
    assert asked.is_set()


def test_a_token_path_that_is_no_file(
    the_hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # to open it would wait for a writer, for ever
    for path in (str(pipe), "/dev/zero", str(tmp_path)):
        monkeypatch.setenv("HF_TOKEN_PATH", path)
        with pytest.raises(ConfigError, match="not a regular file, so not a Hub token"):
            find_config("org/m")
    assert not the_hub.asked


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
