"""The adapter without vLLM: its protocol, refusals, the silent plugin, the stand-in library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vllm_kv_planner
from vllm_kv_planner import InputError, PlanRequest, UnsupportedError, VLLMPlanner
from vllm_kv_planner.config.find import FoundConfig, find_config
from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.gpu.catalogue import find_gpu
from vllm_kv_planner.planner import plan_of
from vllm_kv_planner.planning.request import plan_request
from vllm_kv_planner.vllm_adapter import shared
from vllm_kv_planner.vllm_adapter.budget import plan_with_budget

MakePlanner = Callable[..., VLLMPlanner]


READY = {
    "vllm_version": "0.33.0",
    "tested": True,
    "tested_versions": ["0.32", "0.33"],
    "device": "cuda",
    "device_name": None,
}


ANSWER = {
    "vllm_version": "0.33.0",
    "architecture": "GPT2LMHeadModel",
    "num_layers": 12,
    "num_gpus": 1,
    "engine": {
        "dtype": "bfloat16",
        "kv_cache_dtype": "auto",
        "block_size": 16,
        "max_model_len": 1024,
        "max_num_seqs": 256,
        "max_num_batched_tokens": 2048,
        "gpu_memory_utilization": 0.92,
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "data_parallel_size": 1,
        "decode_context_parallel_size": 1,
        "enforce_eager": False,
        "enable_prefix_caching": True,
        "quantization": None,
        "attention_backend": "FLASH_ATTN",
        "speculative": None,
    },
    "memory": {
        "requested_bytes": None,
        "weights_bytes": 248952000,
        "available_kv_cache_bytes": 1 << 30,
        "provenance": "--kv-cache-memory-bytes",
    },
    "kv_cache": {
        "bytes_per_token": 36864,
        "bytes_per_block": 589824,
        "num_gpu_blocks": 1820,
        "kv_cache_size_tokens": 29120,
        "max_concurrency": 28.4375,
        "max_model_len_that_fits": 1024,
    },
    "groups": [
        {
            "kind": "full_attention",
            "num_layers": 12,
            "block_size": 16,
            "page_size_bytes": 49152,
            "blocks_per_request": 64,
        }
    ],
    "fits": True,
    "notes": [],
}


@pytest.fixture
def make_planner(tmp_path: Path) -> MakePlanner:
    """A planner whose interpreter is a script that speaks the protocol, with these messages."""

    def make(first: list[Any], answers: list[Any], **options: Any) -> VLLMPlanner:
        script = tmp_path / "python"
        seen = tmp_path / "seen"
        script.write_text(
            f"#!{sys.executable}\n"
            "import json, os, sys\n"
            f"seen = open({str(seen)!r}, 'a')\n"
            f"for message in {first!r}: print(json.dumps(message), flush=True)\n"
            f"for line, message in zip(sys.stdin, {answers!r}):\n"
            "    print(line, end='', file=seen, flush=True)\n"
            "    if message is None:\n"
            "        print('Killed by something', file=sys.stderr); sys.exit(3)\n"
            "    print(json.dumps(message), flush=True)\n"
            "sys.stdin.read()\n"
        )
        script.chmod(0o755)
        return VLLMPlanner(python=str(script), **options)

    return make


def requests(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]


def test_the_answer_becomes_a_plan(make_planner: MakePlanner, tmp_path: Path) -> None:
    said: list[str] = []
    first = [{"progress": "importing vLLM"}, {"ready": READY}]
    with make_planner(first, [{"id": 1, "plan": ANSWER}], progress=said.append) as planner:
        plan = planner.plan("gpt2", gpu="L4", kv_cache_memory_bytes=1 << 30, max_model_len=1024)
    assert plan.planner.name == "vllm"
    assert plan.planner.vllm_version == "0.33.0"
    assert plan.kv_cache.num_gpu_blocks == 1820
    assert plan.kv_cache.groups[0].kind == "full_attention"
    assert plan.model.id == "openai-community/gpt2"
    assert plan.gpu.name == find_gpu("L4").name
    assert "process_weights_after_loading" in plan.memory.provenance["weights_bytes"]
    standalone = vllm_kv_planner.plan("gpt2", kv_cache_memory_bytes=1 << 30)
    assert list(plan.to_dict()) == list(standalone.to_dict())
    assert said[0] == "importing vLLM"
    (request,) = requests(tmp_path)
    assert request["arguments"]["kv_cache_memory_bytes"] == 1 << 30
    assert request["arguments"]["model"].endswith("openai-community/gpt2")
    assert "gpu_memory_utilization" not in request["arguments"]  # at its default: left to vLLM


def test_one_process_answers_many(make_planner: MakePlanner, tmp_path: Path) -> None:
    with make_planner([{"ready": READY}], [{"plan": ANSWER}] * 3) as planner:
        for _ in range(3):
            planner.plan("gpt2", gpu="L4", kv_cache_memory_bytes=1 << 30)
    assert [request["id"] for request in requests(tmp_path)] == [1, 2, 3]


def test_a_refusal_is_one_line_and_the_process_lives_on(make_planner: MakePlanner) -> None:
    answers = [{"refused": "vLLM 0.33.0 refuses: heads"}, {"plan": ANSWER}]
    with make_planner([{"ready": READY}], answers) as planner:
        with pytest.raises(InputError, match=r"^vLLM 0.33.0 refuses: heads$"):
            planner.plan("gpt2", gpu="L4", kv_cache_memory_bytes=1 << 30)
        assert planner.plan("gpt2", gpu="L4", kv_cache_memory_bytes=1 << 30).fits


def test_a_process_that_dies_says_its_last_words(make_planner: MakePlanner) -> None:
    with (
        make_planner([{"ready": READY}], [None]) as planner,
        pytest.raises(UnsupportedError, match=r"status 3\): Killed by something"),
    ):
        planner.plan("gpt2", gpu="L4", kv_cache_memory_bytes=1 << 30)


def test_an_import_that_fails(make_planner: MakePlanner) -> None:
    with (
        make_planner([{"failed": "ImportError: libfoo"}], []) as planner,
        pytest.raises(UnsupportedError, match="could not be started: ImportError: libfoo"),
    ):
        planner.plan("gpt2", gpu="L4", kv_cache_memory_bytes=1 << 30)


def test_no_answer_in_time(make_planner: MakePlanner) -> None:
    with (
        make_planner([{"progress": "importing"}], [], timeout=0.3) as planner,
        pytest.raises(UnsupportedError, match="no answer"),
    ):
        planner.plan("gpt2", gpu="L4", kv_cache_memory_bytes=1 << 30)


def test_an_untested_version_is_named_beside_the_tested_ones(make_planner: MakePlanner) -> None:
    ready = {**READY, "vllm_version": "0.40.1", "tested": False}
    with make_planner([{"ready": ready}], [{"plan": ANSWER}]) as planner:
        plan = planner.plan("gpt2", gpu="L4", kv_cache_memory_bytes=1 << 30)
    assert any("0.40.1" in note and "0.32, 0.33" in note for note in plan.notes)


def test_another_version_than_the_installed_is_refused(make_planner: MakePlanner) -> None:
    with make_planner([{"ready": READY}], []) as planner:
        args = EngineArgs(model="gpt2", kv_cache_memory_bytes=1 << 30)
        with pytest.raises(UnsupportedError, match=r"--vllm-version 0.32.*installed is 0.33.0"):
            planner.plan_request(
                PlanRequest(found=find_config("gpt2"), args=args, gpu="L4", vllm_version="0.32")
            )


def test_nothing_is_left_behind(make_planner: MakePlanner, tmp_path: Path) -> None:
    planner = make_planner([{"ready": READY}], [{"plan": ANSWER}])
    planner.plan("gpt2", gpu="L4", kv_cache_memory_bytes=1 << 30)
    folder = Path(requests(tmp_path)[0]["arguments"]["model"])
    assert folder.is_dir()
    planner.close()
    assert not folder.exists()


UNKNOWN = FoundConfig(
    "org/new", {"architectures": ["NobodyKnowsForCausalLM"], "model_type": "new"}, "local"
)


def test_auto_asks_vllm_where_the_stand_alone_planner_refuses(
    make_planner: MakePlanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner = make_planner([{"ready": READY}], [{"plan": ANSWER}])
    monkeypatch.setattr(shared, "is_installed", lambda: True)
    monkeypatch.setattr(shared, "shared_planner", lambda: planner)
    with planner:
        plan = vllm_kv_planner.plan(UNKNOWN, gpu="L4", kv_cache_memory_bytes=1 << 30)
    assert plan.planner.name == "vllm"
    assert any("NobodyKnowsForCausalLM" in note for note in plan.notes)


def test_auto_without_vllm_keeps_the_first_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "is_installed", lambda: False)
    with pytest.raises(UnsupportedError, match="NobodyKnowsForCausalLM"):
        vllm_kv_planner.plan(UNKNOWN, gpu="L4", kv_cache_memory_bytes=1 << 30)
    with pytest.raises(UnsupportedError, match="pip install vllm"):
        vllm_kv_planner.plan("gpt2", planner="vllm", kv_cache_memory_bytes=1 << 30)


def test_stand_alone_plans_never_import_the_adapter() -> None:
    code = (
        "import sys, vllm_kv_planner as kv\n"
        "kv.plan('gpt2', gpu='L4', kv_cache_memory_bytes=1 << 30)\n"
        "print([m for m in sys.modules if 'vllm_adapter' in m or m == 'vllm'])"
    )
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", "Qwen/Qwen3.5-27B"])
def test_a_plan_says_that_no_memory_is_left(model: str) -> None:
    """What vLLM is asked for then is the sizes alone; the rest is as the rules here have it."""
    flags: dict[str, Any] = {"gpu": "L4", "planner": "standalone", "gpu_memory_utilization": 0.5}
    asked: list[Any] = []

    def ask(request: PlanRequest, stage_memory: Any = None) -> Any:
        asked.append(stage_memory)
        return plan_of(request)

    told = plan_with_budget(plan_request(model, **flags), ask)
    ours = plan_of(plan_request(model, **flags))
    assert asked == [[1]]
    assert (told.verdict, told.fits, told.limits) == ("does_not_fit", False, ours.limits)
    assert told.limits[0] == "no memory is available for the cache blocks"
    assert told.memory == ours.memory
    assert told.kv_cache == ours.kv_cache
