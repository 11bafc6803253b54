"""A folder's checkpoint is looked at, by rule or without one: whole, or refused by name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from vllm_kv_planner import plan
from vllm_kv_planner.cli import main
from vllm_kv_planner.errors import ConfigError
from vllm_kv_planner.memory.weights import local_checkpoint
from vllm_kv_planner.memory.weights.local_checkpoint import held, local_headers

from .work import calls_in

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    **{"num_hidden_layers": 4, "hidden_size": 2048, "intermediate_size": 8192},
    **{"num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 32000},
    **{"max_position_embeddings": 2048, "tie_word_embeddings": True},
}
LAYER = {
    "self_attn.q_proj": [2048, 2048],
    "self_attn.k_proj": [512, 2048],
    "self_attn.v_proj": [512, 2048],
    "self_attn.o_proj": [2048, 2048],
    "mlp.gate_proj": [8192, 2048],
    "mlp.up_proj": [8192, 2048],
    "mlp.down_proj": [2048, 8192],
}
INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def tensors(*layers: int, dtype: str = "BF16", width: int = 2) -> dict[str, Any]:
    """A header of some layers, and the embedding with the first."""
    shapes = {"model.embed_tokens.weight": [32000, 2048]} if 0 in layers else {}
    for number in layers:
        shapes |= {f"model.layers.{number}.{name}.weight": shape for name, shape in LAYER.items()}
    made, at = {}, 0
    for name, shape in shapes.items():
        end = at + shape[0] * shape[1] * width
        made[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    return made


def write(folder: Path, name: str, header: dict[str, Any], *, short: int = 0) -> None:
    """A file whose data are a hole of the disk; its last ``short`` bytes are missing."""
    raw = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    with open(folder / name, "wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end - short)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "m"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(CONFIG))
    return made


def two_files(folder: Path, second: dict[str, Any] | None = None) -> None:
    parts = {FIRST: tensors(0, 1), SECOND: tensors(2, 3) if second is None else second}
    for name, header in parts.items():
        write(folder, name, header)
    names = {tensor: name for name, header in parts.items() for tensor in header}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))


def refusal(folder: Path, **flags: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        plan(str(folder), gpu="L4", planner="standalone", **flags)
    return str(caught.value)


def test_a_whole_one_is_planned_without_a_word(folder: Path) -> None:
    two_files(folder)
    found = plan(str(folder), gpu="L4")
    assert found.verdict == "fits"
    assert not any("safetensors" in note for note in found.notes)


def test_no_weights_in_the_folder_are_told(folder: Path) -> None:
    (said,) = (n for n in plan(str(folder), gpu="L4").notes if "safetensors" in n)
    assert said.endswith("holds no safetensors files: weights are those of its config.json")
    by_file = plan(str(folder / "config.json"), gpu="L4")
    assert not any("safetensors" in note for note in by_file.notes)


NOT_WHOLE = {
    "one of two files": (lambda m: (m / SECOND).unlink(), f"{SECOND}: named in the index, but not"),
    "no file of the index": (
        lambda m: [(m / name).unlink() for name in (FIRST, SECOND)],
        f"{FIRST}: named in the index, but not there (2 of 2 files)",
    ),
    "one of two, no index": (
        lambda m: [(m / name).unlink() for name in (INDEX, SECOND)],
        "holds 1 of 2 files model-",
    ),
    "an empty header": (lambda m: write(m, SECOND, {}), f"{SECOND}: holds no tensor"),
    "an empty file": (lambda m: (m / SECOND).write_bytes(b""), "not a safetensors file (0 bytes)"),
    "no header": (lambda m: (m / SECOND).write_bytes(bytes(100)), "a header of 0 bytes"),
    "one tensor fewer": (
        lambda m: write(m, SECOND, dict(list(tensors(2, 3).items())[:-1])),
        'names tensor "model.layers.3.mlp.down_proj.weight", which no file holds',
    ),
    "cut short": (lambda m: write(m, SECOND, tensors(2, 3), short=1), "ends within its data"),
    "fewer layers": (lambda m: two_files(m, tensors(2)), "holds 3 layers"),
    "one tensor": (
        lambda m: (
            [(m / name).unlink() for name in (INDEX, FIRST, SECOND)],
            write(m, "model.safetensors", {"model.embed_tokens.weight": tensors(0).popitem()[1]}),
        ),
        "tensor",
    ),
}


@pytest.mark.parametrize("amiss", NOT_WHOLE)
@pytest.mark.parametrize("flags", [{}, {"kv_cache_memory_bytes": 1 << 30}], ids=["", "given"])
def test_one_that_is_not_whole_is_refused(folder: Path, amiss: str, flags: dict[str, Any]) -> None:
    spoil, said = NOT_WHOLE[amiss]
    two_files(folder)
    spoil(folder)
    assert said in refusal(folder, **flags)
    # what is not read as safetensors files is not looked at; nor what stands beside a config.json
    assert plan(str(folder), gpu="L4", load_format="dummy", **flags).verdict == "fits"
    assert plan(str(folder / "config.json"), gpu="L4", **flags).verdict == "fits"


def test_layers_all_there_yet_far_too_small(folder: Path) -> None:
    header = {name: each for name, each in tensors(0, 1, 2, 3).items() if "mlp" not in name}
    at = 0
    for each in header.values():
        size = each["shape"][0] * each["shape"][1] * 2
        each["data_offsets"] = [at, at + size]
        at += size
    write(folder, "model.safetensors", header)
    assert "config.json speaks of at least 0.5" in refusal(folder)


def test_one_far_larger_than_its_config_is_told(folder: Path) -> None:
    write(folder, "model.safetensors", tensors(*range(16)))
    (said,) = (n for n in plan(str(folder), gpu="L4").notes if "safetensors" in n)
    assert "hold 1.9" in said and said.endswith("on each of 1 GPUs: is it this model's?")
    # what is stored wider than it is loaded is nothing to tell
    write(folder, "model.safetensors", tensors(0, 1, 2, 3, dtype="F32", width=4))
    assert not any("this model's" in note for note in plan(str(folder), gpu="L4").notes)


def test_the_draft_models_folder_too(folder: Path, tmp_path: Path) -> None:
    two_files(folder)
    draft = tmp_path / "draft"
    draft.mkdir()
    (draft / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 2}))
    write(draft, FIRST, tensors(0, 1))
    speculative = {"model": str(draft), "num_speculative_tokens": 2, "method": "draft_model"}
    assert "holds 1 of 2 files" in refusal(folder, speculative_config=speculative)


def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    repository = tmp_path / "hub" / "models--org--m"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    (snapshot / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return snapshot


def test_a_part_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline vLLM has nothing else; online it fetches the rest."""
    snapshot = cached(tmp_path, monkeypatch)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert plan("org/m", gpu="L4").verdict == "fits"
    two_files(snapshot)
    assert plan("org/m", gpu="L4").verdict == "fits"
    (snapshot / SECOND).unlink()
    with pytest.raises(ConfigError, match="named in the index, but not there"):
        plan("org/m", gpu="L4")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert plan("org/m", gpu="L4").verdict == "fits"


def test_headers_are_looked_through_not_parsed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {
        f"model.layers.{i % 4}.mlp.experts.{i}.up_proj.weight": {
            "dtype": "BF16",
            "shape": [1, 1],
            "data_offsets": [2 * i, 2 * i + 2],
        }
        for i in range(20_000)
    }
    write(folder, "model.safetensors", many)
    with monkeypatch.context() as patch:
        patch.setattr(local_checkpoint, "all_headers", None)
        assert calls_in(lambda: held(str(folder))) < 90_000
    there, parsed = held(str(folder)), local_headers(str(folder))
    assert there is not None and parsed is not None
    assert (there.names, there.num_bytes) == (frozenset(parsed.tensors), parsed.total_bytes)


def test_the_command_says_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_files(folder)
    os.unlink(folder / SECOND)
    assert main(["plan", str(folder), "--gpu", "L4"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and SECOND in said.err
