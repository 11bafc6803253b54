"""What becomes of a start, what decides it, and the smallest change that helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import vllm_kv_planner
from vllm_kv_planner.cli import main
from vllm_kv_planner.config.find import find_config
from vllm_kv_planner.errors import UnsupportedError
from vllm_kv_planner.explain.compare import blocks_reason
from vllm_kv_planner.explain.measured import ROUNDING, Part
from vllm_kv_planner.gpu.catalogue import find_gpu
from vllm_kv_planner.planner import plan_of
from vllm_kv_planner.planning.request import plan_request
from vllm_kv_planner.planning.types import Plan
from vllm_kv_planner.planning.verdict import states_for_all
from vllm_kv_planner.records import replace

GIB = 1 << 30
HYBRID: dict[str, Any] = {"max_model_len": 8192, "kv_cache_memory_bytes": 13_000_000_000}


def plan(model: str, gpu: str | None, **flags: Any) -> Plan:
    return vllm_kv_planner.plan(model, gpu=gpu, planner="standalone", **flags)


def test_every_sequence_needs_a_state() -> None:
    answer = plan("Qwen/Qwen3.5-27B", "H100", **HYBRID)
    assert (answer.verdict, answer.fits) == ("does_not_fit", False)
    assert answer.kv_cache.num_gpu_blocks == 238
    assert "max_num_seqs (1,024) exceeds available Mamba cache blocks (238)" in answer.limits[0]
    (change,) = answer.changes
    assert (change.flag, change.value) == ("max_num_seqs", 238)
    assert plan("Qwen/Qwen3.5-27B", "H100", **HYBRID, max_num_seqs=238).fits
    assert not plan("Qwen/Qwen3.5-27B", "H100", **HYBRID, max_num_seqs=239).fits


@pytest.mark.parametrize(
    "flags",
    [
        {"enforce_eager": True},
        {"compilation_config": {"cudagraph_mode": "PIECEWISE"}},
    ],
)
def test_without_whole_graphs_nobody_asks_for_states(flags: dict[str, Any]) -> None:
    answer = plan("Qwen/Qwen3.5-27B", "H100", **HYBRID, **flags)
    assert answer.fits and answer.limits == ()


def test_an_older_engine_does_not_ask() -> None:
    request = plan_request("Qwen/Qwen3.5-27B", gpu="H100", vllm_version="0.18", **HYBRID)
    assert "Mamba" not in " ".join(plan_of(request).limits)


def test_a_default_given_by_hand_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    """vLLM 0.15 asks for 0.9 by default; 0.92 is 0.33's own default, and here somebody's wish."""
    asked = [
        plan_of(plan_request("Qwen/Qwen3-8B", gpu="H100", vllm_version="0.15", **flags))
        for flags in ({}, {"gpu_memory_utilization": 0.92})
    ]
    assert [each.engine.gpu_memory_utilization for each in asked] == [0.9, 0.92]
    assert asked[0].memory.requested_bytes != asked[1].memory.requested_bytes
    line = ["plan", "--gpu", "H100", "--vllm-version", "0.15", "--", "vllm", "serve"]
    assert main([*line, "Qwen/Qwen3-8B", "--gpu-memory-utilization", "0.92"]) in (0, 1)
    assert "0.92 of the GPU's memory" in capsys.readouterr().out


def test_concurrency_follows_within_its_digits() -> None:
    part = Part(name="maximum concurrency", unit="times", predicted=4.72, actual=4.33)
    wrong = blocks_reason(part, 4.11, int(5.98 * GIB), ROUNDING)
    assert "follows from" not in wrong.reason
    right = blocks_reason(part, 4.334, int(5.98 * GIB), ROUNDING)
    assert "follows from the KV memory" in right.reason


def test_rows_tell_the_verdict() -> None:
    models = ["Qwen/Qwen3-8B", "nobody/nothing"]
    compared = vllm_kv_planner.compare_models(models, gpu="L4", planner="standalone")
    fit, refused = compared.models
    assert fit.verdict == "does_not_fit" and fit.limits and fit.changes[0].flag == "max_model_len"
    assert refused.verdict == "refused" and refused.limits == (refused.reason,)
    rows = vllm_kv_planner.sweep(
        ["Qwen/Qwen3-8B"], gpus=["L4"], grid={"tensor_parallel_size": [1, 2, 5]}, workers=1
    )
    columns = [rows.columns.index(name) for name in ("verdict", "limits", "changes")]
    said = [tuple(row[column] for column in columns) for row in rows.rows]
    assert [word for word, _, _ in said] == ["does_not_fit", "fits", "refused"]
    assert said[0][2][0]["flag"] == "max_model_len" and said[1][1:] == ([], [])
    assert "divisible" in said[2][1][0]


def test_a_band_that_straddles_the_sequences() -> None:
    assert states_for_all(100, 120, 110).word == "fits"
    assert states_for_all(100, 105, 95).word == "borderline"
    assert "may be refused" in states_for_all(100, 99, 95).limits[0]
    assert states_for_all(100, 90, 85).word == "does_not_fit"
    assert states_for_all(100, 100, 100).word == "fits"


@pytest.mark.parametrize(
    ("model", "gpu", "flags"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "L4", {"kv_cache_memory_bytes": 40 * GIB}),
        ("Qwen/Qwen3-32B", "L4", {"kv_cache_memory_bytes": 20 * GIB}),
        ("gpt2", "L4", {"kv_cache_memory_bytes": 1000 * GIB}),
        ("gpt2", "L4", {"num_gpu_blocks_override": 100_000_000}),
    ],
)
def test_given_memory_is_held_against_the_gpu(model: str, gpu: str, flags: dict[str, Any]) -> None:
    answer = plan(model, gpu, **flags)
    assert answer.verdict == "does_not_fit"
    assert "the GPU has 22.03 GiB" in answer.limits[0]
    for change in answer.changes:  # each was planned again
        again = {**flags, change.flag: change.value}
        assert plan(model, again.pop("gpu", gpu), **again).fits


def test_the_change_for_too_much_memory_is_less_of_it() -> None:
    answer = plan("gpt2", "L4", kv_cache_memory_bytes=1000 * GIB)
    (change,) = answer.changes
    assert change.flag == "kv_cache_memory_bytes" and 10 * GIB < change.value < 22 * GIB


def test_no_gpu_named_nothing_judged() -> None:
    answer = plan("gpt2", None, kv_cache_memory_bytes=1000 * GIB)
    assert answer.fits and answer.memory.weights_bytes is None


def test_a_model_without_a_cache_needs_room_for_its_weights(tmp_path: Path) -> None:
    # 24 layers of 4 x 64Ki x 64Ki and a little: over 600 GB in bfloat16
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": 65536,
        "num_hidden_layers": 24,
        "num_attention_heads": 512,
        "intermediate_size": 65536,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    large = plan(str(path), "L4")
    assert large.verdict == "does_not_fit" and large.kv_cache.groups == ()
    assert large.memory.weights_bytes is not None and large.memory.weights_bytes > 280e9
    assert plan("sentence-transformers/all-MiniLM-L6-v2", "L4").fits


def test_a_7b_embedding_model_on_8_gib() -> None:
    small = replace(find_gpu("RTX-3060-12GB"), torch_total_bytes=8 * GIB, nvml_total_bytes=8 * GIB)
    answer = plan_of(plan_request("Alibaba-NLP/gte-Qwen2-7B-instruct", gpu=small))
    assert answer.kv_cache.groups == ()
    assert answer.verdict == "does_not_fit"


def test_all_figures_are_one_rank_s() -> None:
    """61 layers in 4 stages: the stage with the most layers of cache is not the heaviest one."""
    answer = plan(
        "deepseek-ai/DeepSeek-V3", "B200", tensor_parallel_size=4, pipeline_parallel_size=4
    )
    memory, cache = answer.memory, answer.kv_cache
    assert memory.requested_bytes is not None and memory.available_kv_cache_bytes is not None
    parts = (
        memory.weights_bytes,
        memory.activation_peak_bytes,
        memory.cuda_graph_bytes,
        memory.non_torch_bytes,
    )
    left = memory.requested_bytes - sum(each or 0 for each in parts)
    assert left == memory.available_kv_cache_bytes
    assert memory.available_kv_cache_bytes // cache.bytes_per_block == cache.num_gpu_blocks
    assert any(note.startswith("the figures are those of pipeline stage") for note in answer.notes)


def test_weights_unknown_sizes_shown(capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["--custom", "--layers", "80", "--kv-heads", "8", "--head-dim", "128"]
    assert main(["plan", *shape, "--format", "json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    # 80 layers x 2 x 8 heads x 128 x 2 bytes
    assert answer["kv_cache"]["bytes_per_token"] == 327_680
    assert answer["kv_cache"]["bytes_per_block"] == 16 * 327_680
    assert answer["kv_cache"]["num_gpu_blocks"] is None
    assert answer["memory"]["available_kv_cache_bytes"] is None
    assert answer["verdict"] == "borderline" and "--kv-cache-memory-bytes" in answer["limits"][0]
    assert main(["plan", *shape]) == 1
    assert "not known" in capsys.readouterr().out


def test_a_quantisation_that_nobody_states_is_refused(tmp_path: Path) -> None:
    """The cache of such a model may be FP8 too: no sizes are shown for it."""
    folder = tmp_path / "Llama-8B-FP8"
    folder.mkdir()
    config = find_config("meta-llama/Llama-3.1-8B-Instruct").config
    (folder / "config.json").write_text(json.dumps(config))
    found = replace(find_config(str(folder)), id="nobody/Llama-8B-FP8", source="hub-copy")
    with pytest.raises(UnsupportedError, match="the model's name says FP8"):
        plan_of(plan_request(found, gpu="H100", planner="standalone"))


def test_given_memory_and_unknown_weights() -> None:
    config = find_config("Qwen/Qwen-7B")
    answer = vllm_kv_planner.plan(
        config, gpu="L4", vllm_version="0.23", kv_cache_memory_bytes=400 * GIB
    )
    assert answer.fits and answer.kv_cache.num_gpu_blocks
    assert any("not held against the GPU" in note for note in answer.notes)


def test_advice_was_planned_again() -> None:
    answer = plan("meta-llama/Llama-3.1-70B-Instruct", "H100")
    assert answer.verdict == "does_not_fit"
    assert [each.flag for each in answer.changes] == ["tensor_parallel_size"]
    assert "utilization" not in " ".join(answer.limits)


def test_a_borderline_length_is_a_range() -> None:
    words = [
        plan("Qwen/Qwen3-8B", "L4", max_model_len=length) for length in range(20_000, 30_000, 200)
    ]
    unsure = [each for each in words if each.verdict == "borderline"]
    assert unsure
    for each in unsure:
        assert "the estimated maximum model length is" in each.limits[0]
        assert " to " in each.limits[0]
        assert each.notes[0] == f"borderline: {each.limits[0]}"


def test_unified_memory_leaves_the_host_something() -> None:
    answer = plan("Qwen/Qwen3-0.6B", "GB10")
    assert answer.host is not None and answer.host.left_bytes < answer.host.wanted_bytes
    assert "the GPU's memory is the host's too" in answer.notes[0]
    (change,) = answer.changes
    assert change.flag == "gpu_memory_utilization"
    calm = plan("Qwen/Qwen3-0.6B", "GB10", gpu_memory_utilization=change.value)
    assert calm.fits and calm.changes == () and calm.host is not None
    assert calm.host.left_bytes >= calm.host.wanted_bytes
    assert plan("Qwen/Qwen3-0.6B", "L4").host is None


@pytest.mark.parametrize("name", ["GH200", "GH200-144GB", "GB200", "GB300", "NVIDIA GH200 480GB"])
def test_memory_that_the_host_may_keep_pages_in(name: str) -> None:
    """vLLM issue 35313: 74.9 of a GH200's 142.5 GiB were free, and the start ended."""
    answer = plan("Qwen/Qwen3-0.6B", name)
    assert answer.fits
    assert answer.host is not None and not answer.host.unified_memory
    assert "the host may keep page cache in this GPU's memory" in answer.notes[0]
    (change,) = answer.changes
    assert change.flag == "gpu_memory_utilization"
    calm = plan("Qwen/Qwen3-0.6B", name, gpu_memory_utilization=change.value)
    assert calm.fits and calm.changes == ()
    assert not any("page cache" in note for note in calm.notes)
