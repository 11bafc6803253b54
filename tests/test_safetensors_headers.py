"""Headers of safetensors files: real files, a real HTTP server, and what hostile ones get."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vllm_kv_planner.config.hub import NotOnHub
from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.errors import ConfigError
from vllm_kv_planner.memory.weights import headers
from vllm_kv_planner.memory.weights.checkpoint import checkpoint_weights
from vllm_kv_planner.memory.weights.headers import (
    CheckpointTensor,
    hub_headers,
    parse_header,
)
from vllm_kv_planner.memory.weights.local_checkpoint import local_headers

from .hub_server import COMMIT, TOKEN, Hub, running_hub
from .work import bytes_in, calls_in


def safetensors(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file: length, header, data."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


TWO = {
    "__metadata__": {"format": "pt"},
    "model.norm.weight": entry("F32", [4], 0, 16),
    "model.embed_tokens.weight": entry("BF16", [8, 4], 16, 80),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("HF_TOKEN_PATH", "/nonexistent/token")
        yield server


def test_a_local_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors(TWO, bytes(80)))
    found = local_headers(str(tmp_path))
    assert found is not None
    assert found.tensors["model.embed_tokens.weight"] == CheckpointTensor("BF16", (8, 4), 64)
    assert found.total_bytes == 80
    assert found.dtype == "bfloat16"  # 64 bytes of it against 16
    assert (found.files, found.source) == (("model.safetensors",), "local")


def test_files_that_an_index_names(tmp_path: Path) -> None:
    parts = {
        "model-00001-of-00002.safetensors": {"a": entry("F16", [2, 3], 0, 12)},
        "model-00002-of-00002.safetensors": {"b": entry("F8_E4M3", [5], 0, 5)},
    }
    for name, header in parts.items():
        (tmp_path / name).write_bytes(safetensors(header, bytes(12)))
    (tmp_path / "consolidated.safetensors").write_bytes(safetensors(TWO, bytes(80)))
    index = {"weight_map": {"a": sorted(parts)[0], "b": sorted(parts)[1]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = local_headers(str(tmp_path), "safetensors")
    assert found is not None
    assert (sorted(found.tensors), found.total_bytes, found.dtype) == (["a", "b"], 17, "float16")
    mistral = local_headers(str(tmp_path))  # vLLM prefers Mistral's own files where they are
    assert mistral is not None and mistral.files == ("consolidated.safetensors",)


def test_weights_of_an_architecture_without_a_rule(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors(TWO, bytes(80)))
    found = local_headers(str(tmp_path))
    assert found is not None
    whole = checkpoint_weights(found, EngineArgs())
    assert whole.num_bytes == (80,)
    assert whole.provenance == "the checkpoint's tensors (1 file, local), divided evenly"
    cut = checkpoint_weights(found, EngineArgs(tensor_parallel_size=2, pipeline_parallel_size=3))
    assert cut.num_bytes == (14, 14, 14)
    assert cut.uncertainty_bytes >= 32  # a stage may have the embedding


def test_a_folder_without_any(tmp_path: Path) -> None:
    assert local_headers(str(tmp_path)) is None


def test_a_long_header_takes_a_second_read(tmp_path: Path) -> None:
    many = {f"layer.{i:06}": entry("U8", [1], i, i + 1) for i in range(4000)}
    raw = safetensors(many, bytes(4000))
    assert len(raw) > headers._FIRST_BYTES
    (tmp_path / "model.safetensors").write_bytes(raw)
    found = local_headers(str(tmp_path))
    assert found is not None
    assert (len(found.tensors), found.total_bytes, found.dtype) == (4000, 4000, None)


def test_real_files_by_the_safetensors_library(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    library = pytest.importorskip("safetensors.numpy")
    arrays = {
        "a.weight": numpy.zeros((3, 5), dtype=numpy.float16),
        "b.bias": numpy.zeros((7,), dtype=numpy.int64),
        "c": numpy.zeros((0, 4), dtype=numpy.float32),
        "d": numpy.array(1.0, dtype=numpy.float64),
    }
    library.save_file(arrays, str(tmp_path / "model.safetensors"))
    found = local_headers(str(tmp_path))
    assert found is not None
    assert {name: (t.shape, t.num_bytes) for name, t in found.tensors.items()} == {
        name: (array.shape, array.nbytes) for name, array in arrays.items()
    }


def test_the_hub_one_file(hub: Hub) -> None:
    hub.add("org/one", safetensors(TWO, bytes(80)), "model.safetensors")
    found = hub_headers("org/one")
    assert found is not None
    assert (found.total_bytes, found.source) == (80, "hub")


def test_the_hub_with_an_index_reads_the_commit_it_names(hub: Hub) -> None:
    files = {
        "model-00001-of-00002.safetensors": {"a": entry("F16", [2, 3], 0, 12)},
        "model-00002-of-00002.safetensors": {"b": entry("BF16", [8], 0, 16)},
    }
    index = {"weight_map": dict(zip("ab", files, strict=True))}
    hub.add("org/two", index, "model.safetensors.index.json")
    for name, header in files.items():
        hub.add("org/two", safetensors(header, bytes(16)), name)
    found = hub_headers("org/two")
    assert found is not None
    assert found.total_bytes == 28
    paths = [path for path, _ in hub.asked]
    assert paths[1:] == [f"/org/two/resolve/{COMMIT}/{name}" for name in files]


def test_only_header_bytes_are_asked_for(hub: Hub) -> None:
    big = {"w": entry("U8", [5_000_000], 0, 5_000_000)}
    hub.add("org/big", safetensors(big, bytes(5_000_000)), "model.safetensors")
    found = hub_headers("org/big")
    assert found is not None and found.total_bytes == 5_000_000
    assert hub.ranges == ["bytes=0-131071"]


def test_a_hub_that_does_not_heed_ranges(hub: Hub) -> None:
    hub.heeds_ranges = False
    many = {f"layer.{i:06}": entry("U8", [1], i, i + 1) for i in range(4000)}
    hub.add("org/old", safetensors(many, bytes(400_000)), "model.safetensors")
    found = hub_headers("org/old")
    assert found is not None and len(found.tensors) == 4000


def test_a_repository_without_safetensors(hub: Hub) -> None:
    hub.add("org/bin", {"model_type": "llama"})
    assert hub_headers("org/bin") is None


def test_unknown_and_gated_repositories(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotOnHub):
        hub_headers("org/nothing")
    hub.add("gated/model", safetensors(TWO, bytes(80)), "model.safetensors")
    with pytest.raises(ConfigError, match="gated"):
        hub_headers("gated/model")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    found = hub_headers("gated/model")
    assert found is not None and found.total_bytes == 80


HOSTILE = {
    "empty": b"",
    "short": b"\x01\x02",
    "length of 16 EB": struct.pack("<Q", (1 << 64) - 1) + b"{}",
    "length over 100 MB": struct.pack("<Q", 100_000_001) + b"{}",
    "length 0": struct.pack("<Q", 0),
    "cut short": safetensors(TWO)[:40],
    "not JSON": safetensors(b"this is not JSON at all"),
    "not UTF-8": safetensors(b'{"\xff\xfe": 1}'),
    "nested": safetensors(b"[" * 50_000 + b"]" * 50_000),
    "a list": safetensors([1, 2, 3]),
    "entry is a number": safetensors({"a": 7}),
    "no dtype": safetensors({"a": {"shape": [1], "data_offsets": [0, 4]}}),
    "unknown dtype": safetensors({"a": entry("F7", [1], 0, 4)}),
    "dtype a list": safetensors({"a": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}),
    "negative shape": safetensors({"a": entry("F32", [-1], 0, 4)}),
    "shape of true": safetensors({"a": {**entry("F32", [1], 0, 4), "shape": [True]}}),
    "huge shape": safetensors({"a": entry("F32", [1 << 40, 1 << 40], 0, 4)}),
    "shape is a string": safetensors({"a": {**entry("F32", [1], 0, 4), "shape": "1"}}),
    "many dimensions": safetensors({"a": entry("F32", [1] * 1000, 0, 4)}),
    "offsets backwards": safetensors({"a": entry("F32", [1], 4, 0)}),
    "offsets of another size": safetensors({"a": entry("F32", [2], 0, 4)}),
    "three offsets": safetensors({"a": {**entry("F32", [1], 0, 4), "data_offsets": [0, 4, 8]}}),
    "overlap": safetensors({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}),
    "hole": safetensors({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 16, 24)}),
    "half a byte": safetensors({"a": entry("F4", [3], 0, 2)}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(HOSTILE[name])
    with pytest.raises(ConfigError) as caught:
        local_headers(str(tmp_path))
    message = str(caught.value)
    assert "\n" not in message and message.isprintable()
    assert "model.safetensors" in message


@pytest.mark.parametrize(
    "index",
    [
        {},
        {"weight_map": {}},
        {"weight_map": []},
        {"weight_map": {"a": 7}},
        {"weight_map": {"a": "../../../etc/passwd"}},
        {"weight_map": {"a": "sub/model.safetensors"}},
        {"weight_map": {"a": "model.bin"}},
        {"weight_map": {"a": "x\n.safetensors"}},
        {"weight_map": {str(i): f"{i}.safetensors" for i in range(1001)}},
        {"weight_map": {"a": "missing.safetensors", "b": "other.safetensors"}},
    ],
)
def test_hostile_indexes_are_refused_in_one_line(index: Any, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError) as caught:
        local_headers(str(tmp_path))
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()


def test_packed_dtypes() -> None:
    raw = json.dumps({"a": entry("F4", [4, 8], 0, 16), "b": entry("F6_E3M2", [4], 16, 19)}).encode()
    found = parse_header(raw, len(raw), "x")
    assert (found["a"].num_bytes, found["b"].num_bytes) == (16, 3)


LARGE = 4_000_000
OTHER_SHAPES = {
    "lists": b"[" + b"[]," * (LARGE // 3) + b"[]]",
    "lists in an entry": b'{"a": [' + b"[]," * (LARGE // 3) + b"[]]}",
    "objects in an entry": b'{"a": {' + b'"b": {},' * (LARGE // 8) + b'"c": {}}}',
    "numbers in a shape": b'{"a": {"shape": [' + b"1," * (LARGE // 2) + b"1]}}",
    "names": b'{"a": {' + b'"b":1,' * (LARGE // 6) + b'"c":1}}',
    "lists in metadata": b'{"__metadata__": {"a": [' + b"[]," * (LARGE // 3) + b"[]]}}",
    "many metadata": b'{"__metadata__": {' + b'"a":"b",' * (LARGE // 8) + b'"a":"b"}}',
    "metadata twice": b'{"__metadata__": {}, "__metadata__": {}}',
    "a tensor twice": b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},'
    b'"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}',
    "a name without an end": b'{"' + b"x" * LARGE,
    "escapes without an end": b'{"' + b"\\a" * (LARGE // 2),
    "metadata without an end": b'{"__metadata__": {"a": "' + b"\\a" * (LARGE // 2),
    "spaces": b"{" + b" " * LARGE,
    "colons": b'{"a"' + b" :" * (LARGE // 2),
    "nested": b'{"a":' * (LARGE // 5),
    "no tensor": b"{}",
    "metadata alone": b'{"__metadata__": {"format": "pt"}}',
    "more behind": b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}} {}',
}


@pytest.mark.parametrize("kind", OTHER_SHAPES)
def test_headers_of_another_shape_cost_no_more_than_their_bytes(kind: str) -> None:
    raw = OTHER_SHAPES[kind]

    def refused() -> None:
        with pytest.raises(ConfigError) as caught:
            parse_header(raw, len(raw), "x")
        assert str(caught.value).startswith("x: ") and "\n" not in str(caught.value)

    assert calls_in(refused) < 200_000  # 4 MB of text could hold a million values
    assert bytes_in(refused) < 1_000_000 + 3 * len(raw)


def test_what_json_allows_in_a_header() -> None:
    raw = (
        b' { "__metadata__" : { "a" : "}{\\"\\u00e9", "b":"" } , "w\\n\xc3\xa9" : '
        b'{ "data_offsets" : [ 0 , 4 ] , "shape" : [ ] , "dtype" : "F32" } }   '
    )
    assert parse_header(raw, len(raw), "x") == {"w\né": CheckpointTensor("F32", (), 4)}
    plain = b'{"__metadata__":{},"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}'
    assert parse_header(plain, len(plain), "x") == {"w": CheckpointTensor("F32", (), 4)}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"weight_map": {' + b'"a": [],' * 100_000 + b'"a": []}}',
        b'{"weight_map": {' + b'"a": "b",' * 600_000 + b'"a": "b"}}',
        b'{"metadata": ' + b"[" * 100_000,
    ],
)
def test_indexes_of_another_shape_are_not_parsed(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(raw)

    def refused() -> None:
        with pytest.raises(ConfigError, match="holds more than names of 500,000 tensors"):
            local_headers(str(tmp_path))

    assert bytes_in(refused) < 1_000_000 + 3 * len(raw)


ONE_OF_TWO = "model-00001-of-00002.safetensors"


def layer(number: int) -> dict[str, Any]:
    return {f"model.layers.{number}.mlp.experts.0.up_proj.weight": entry("U8", [1], 0, 1)}


def not_whole(folder: Path) -> str:
    with pytest.raises(ConfigError, match="not whole") as caught:
        local_headers(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_checkpoints_that_are_not_whole(tmp_path: Path) -> None:
    """Each is refused by name; none counts as what is there."""
    (tmp_path / ONE_OF_TWO).write_bytes(safetensors(layer(0), b"x"))
    assert "holds 1 of 2 files model-" in not_whole(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {**dict.fromkeys([*layer(0), "a", "b"], ONE_OF_TWO)}})
    )
    assert 'names tensor "a" and 1 more, which no file holds' in not_whole(tmp_path)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(layer(0), "other.safetensors")}))
    with pytest.raises(ConfigError, match=r"other\.safetensors: named in the index, but not there"):
        local_headers(str(tmp_path))
    index.unlink()
    (tmp_path / ONE_OF_TWO).unlink()
    (tmp_path / "model.safetensors").write_bytes(safetensors({}))
    assert "model.safetensors: holds no tensor" in not_whole(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(safetensors(TWO, bytes(79)))
    assert "ends within its data" in not_whole(tmp_path)


def test_no_more_files_than_an_index_may_name(tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / f"{number}.safetensors").touch()
    with pytest.raises(ConfigError, match="names 1,001 files, at most 1,000"):
        local_headers(str(tmp_path))


def test_fewer_layers_than_the_config_says(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors(TWO, bytes(80)))
    found = local_headers(str(tmp_path))
    assert found is not None
    with pytest.raises(ConfigError, match=r"holds 0 layers \(model\.safetensors\), .* says 2"):
        checkpoint_weights(found, EngineArgs(), layers=2)
    for number in range(3):
        name = f"model-0000{number + 1}-of-00003.safetensors"
        (tmp_path / name).write_bytes(safetensors(layer(number), b"x"))
    (tmp_path / "model.safetensors").unlink()
    found = local_headers(str(tmp_path))
    assert found is not None
    assert checkpoint_weights(found, EngineArgs(), layers=3).num_bytes == (3,)
    with pytest.raises(ConfigError, match=r"holds 3 layers .* says 4: it is not whole"):
        checkpoint_weights(found, EngineArgs(), layers=4)


def test_the_hub_with_a_checkpoint_that_is_not_whole(hub: Hub) -> None:
    hub.add("org/none", safetensors({}), "model.safetensors")
    with pytest.raises(ConfigError, match="holds no tensor"):
        hub_headers("org/none")
    hub.add("org/empty", b"", "model.safetensors")
    with pytest.raises(ConfigError, match="not a safetensors file"):
        hub_headers("org/empty")
    index = {"weight_map": dict.fromkeys([*layer(0), "a"], ONE_OF_TWO)}
    hub.add("org/one", index, "model.safetensors.index.json")
    with pytest.raises(ConfigError, match="named in the index, but not there"):
        hub_headers("org/one")
    hub.add("org/one", safetensors(layer(0), b"x"), ONE_OF_TWO)
    with pytest.raises(ConfigError, match='names tensor "a", which no file holds'):
        hub_headers("org/one")
