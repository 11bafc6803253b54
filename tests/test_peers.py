"""The comparison with other planners: what they are handed, and how they are scored."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from benchmarks import peer_driver, peers
from benchmarks.peers import Errors

GIB = 1 << 30
CASE: dict[str, Any] = {
    "config": {"hidden_size": 64, "num_attention_heads": 4, "quantization_config": {"bits": 4}},
    "weights_bytes": 10 * GIB,
    "total_bytes": 80 * GIB,
    "utilization": 0.5,
    "tp": 2,
    "pp": 1,
    "max_model_len": 1000,
    "kv_cache_dtype": "auto",
}


def asked(
    peer: str, cases: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, **modules: Any
) -> list[dict[str, Any]]:
    for name, members in modules.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name.replace("__", "."), module)
    out = io.StringIO()
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(cases)))
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.argv", ["peer_driver.py", peer])
    peer_driver.main()
    answers: list[dict[str, Any]] = json.loads(out.getvalue())
    return answers


def test_what_a_peer_without_gpus_is_taken_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def size(config: dict[str, Any], dtype: str, length: int) -> int:
        return {"BF16": 2, "F8_E4M3": 1}[dtype] * length * GIB // 1000

    eight = {**CASE, "kv_cache_dtype": "fp8"}
    modules = {"hf_mem__safetensors__kv_cache": {"compute_safetensors_kv_cache_size": size}}
    found = asked("hf-mem", [CASE, eight], monkeypatch, **modules)
    # 0.5 x 80 - 10 GiB of each of two GPUs, requests of 2 and of 1 GiB
    assert found[0] == {"kv_bytes": 30 * GIB, "concurrency": 30}
    assert found[1]["concurrency"] == 60


def test_what_a_peer_cannot_say_is_an_error_of_that_case(monkeypatch: pytest.MonkeyPatch) -> None:
    (staged,) = asked("ridgepoint", [{**CASE, "pp": 2}], monkeypatch)
    assert "no pipeline parallelism" in staged["error"]
    (missing,) = asked("llm-d-planner", [CASE], monkeypatch)
    assert "error" in missing


def test_configs_as_objects() -> None:
    found = peer_driver.as_object({"text_config": CASE["config"], "vision_config": {"depth": 2}})
    assert isinstance(found.text_config, SimpleNamespace)
    assert (found.text_config.head_dim, found.text_config.num_key_value_heads) == (16, 4)
    assert found.text_config.quantization_config == {"bits": 4}


def test_configs_are_completed_as_transformers_would() -> None:
    short = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}
    text = peers.completed(short)["text_config"]
    assert (text["num_attention_heads"], text["num_key_value_heads"]) == (8, 4)


def test_scores_and_rows() -> None:
    record = {"model": "a/b", "available_kv_gib": 40.0, "max_concurrency": 20.0}
    case: Any = SimpleNamespace(record=record)
    ours = {"1": (case, Errors(0.01, -0.02)), "2": (case, Errors(0.03, 0.0))}
    answers: dict[str, dict[str, Any]] = {
        "1": {"kv_bytes": 44 * GIB, "concurrency": 15.0},
        "2": {"error": "X: no"},
    }
    errors, refused = peers.scored(ours, answers)
    assert refused == ["a/b: X: no"]
    row = peers.table_row("p", "1", errors, {k: e for k, (_, e) in ours.items()}, refused)
    assert row.kv_mean == pytest.approx(0.1) and row.concurrency_worst == pytest.approx(0.25)
    # ours on the one record that the peer could express
    assert (row.records, row.ours_kv_mean, row.ours_concurrency_mean) == (1, 0.01, 0.02)


def test_a_peer_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert peers.installed("kvfit", "0.3.0", install=False) == "not installed"
    (answer,) = peers.ask("kvfit", tmp_path / "no-python", [CASE])
    assert answer["error"].startswith("no answer")
