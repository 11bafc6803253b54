"""What the child process is given: its environment, folder, arguments and stand-in library."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import vllm_kv_planner
from vllm_kv_planner import InputError, UnsupportedError
from vllm_kv_planner.config.find import FoundConfig
from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.gpu.catalogue import custom_gpu, find_gpu
from vllm_kv_planner.records import replace
from vllm_kv_planner.vllm_adapter import libcuda, plugin
from vllm_kv_planner.vllm_adapter.absent_gpu import describe_gpu
from vllm_kv_planner.vllm_adapter.arguments import vllm_arguments, write_model_folder
from vllm_kv_planner.vllm_adapter.child import child_environment
from vllm_kv_planner.vllm_adapter.libcuda import undefined_functions


def test_the_plugin_is_silent_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(plugin.ABSENT_GPU, raising=False)
    assert plugin.platform() is None
    monkeypatch.setenv(plugin.ABSENT_GPU, describe_gpu(find_gpu("H100")).to_json())
    assert str(plugin.platform()).endswith("internals.platform.AbsentGPUPlatform")
    monkeypatch.setenv(plugin.ABSENT_GPU, describe_gpu(find_gpu("MI300X")).to_json())
    assert str(plugin.platform()).endswith("internals.rocm_platform.AbsentROCmPlatform")


def test_the_child_writes_in_one_folder_and_asks_no_network(tmp_path: Path) -> None:
    gpu = describe_gpu(find_gpu("H100"))
    mine = {"HOME": "/home/me", "VLLM_PLUGINS": "x", "HF_HUB_OFFLINE": "0", "KEPT": "1"}
    environment = child_environment(str(tmp_path), gpu, variables=mine)
    for name in ("HOME", "HF_HOME", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "TMPDIR"):
        assert Path(environment[name]).is_relative_to(tmp_path)
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["KEPT"] == "1"
    assert "VLLM_PLUGINS" not in environment
    assert "NVIDIA H100" in environment[plugin.ABSENT_GPU]
    assert plugin.ABSENT_GPU not in child_environment(str(tmp_path), None, variables=mine)


def test_devices_vllm_cannot_stand_for() -> None:
    assert describe_gpu(find_gpu("MI300X")).gcn_architecture == "gfx942"
    unknown = replace(find_gpu("MI300X"), compute_capability=(8, 0))
    with pytest.raises(UnsupportedError, match="gfx90a, gfx942, gfx950, gfx1100, gfx1151, gfx1201"):
        describe_gpu(unknown)
    with pytest.raises(UnsupportedError, match="compute capability"):
        describe_gpu(custom_gpu(80 << 30))


def test_the_folder_holds_the_config_and_no_code(tmp_path: Path) -> None:
    config = {
        "model_type": "new",
        "auto_map": {"AutoConfig": "evil.Config"},
        "text_config": {"auto_map": {"AutoModel": "evil.Model"}, "n": (1, 2)},
    }
    files = {"hf_quant_config.json": {"quantization": {}}}
    found = FoundConfig("../org/name", config, "local", files=files)
    folder, about = write_model_folder(found, str(tmp_path))
    assert Path(folder).is_relative_to(tmp_path)
    written = json.loads((Path(folder) / "config.json").read_text())
    assert written == {"model_type": "new", "text_config": {"n": [1, 2]}}
    assert (Path(folder) / "hf_quant_config.json").is_file()
    assert about == {"config": {"model_type": "new"}, "names_code": True}


def test_arguments_are_those_given() -> None:
    args = EngineArgs(
        model="x", tensor_parallel_size=8, cudagraph_capture_sizes=(1, 2), hf_overrides={"a": 1}
    )
    assert vllm_arguments(args, "/folder") == {
        "model": "/folder",
        "skip_tokenizer_init": True,
        "trust_remote_code": False,
        "tensor_parallel_size": 8,
        "cudagraph_capture_sizes": [1, 2],
        "hf_overrides": {"a": 1},
    }


@pytest.mark.skipif(sys.platform != "linux", reason="ELF is loaded on Linux")
def test_the_stand_in_library_loads_and_says_no_device(tmp_path: Path) -> None:
    path = tmp_path / "libstandin.so"
    names = [f"cuFunction{i}" for i in range(300)]
    path.write_bytes(libcuda.stub_library(names))
    library = ctypes.CDLL(str(path))
    assert {library[name]() for name in names} == {100}
    with pytest.raises(AttributeError):
        _ = library.cuSomethingElse


def test_no_stand_in_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(UnsupportedError, match="riscv64"):
        libcuda.stub_library(["cuInit"])


def test_files_that_are_no_libraries_need_nothing(tmp_path: Path) -> None:
    for content in (
        b"",
        b"text",
        b"\x7fELF\x02\x01" + bytes(20),
        b"\x7fELF\x02\x01" + b"\xff" * 90,
    ):
        path = tmp_path / "x.so"
        path.write_bytes(content)
        assert undefined_functions(str(path), "libcuda.so.1") == set()
    assert undefined_functions(str(tmp_path / "absent"), "libcuda.so.1") == set()


def test_plan_engine_says_what_it_takes() -> None:
    with pytest.raises(InputError, match="EngineArgs, AsyncEngineArgs, VllmConfig"):
        vllm_kv_planner.plan_engine(3)
    with pytest.raises(InputError, match="dtype beside"):
        vllm_kv_planner.plan_engine(type("EngineArgs", (), {"__module__": "vllm.x"})(), dtype="x")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="vLLM's process forks")
def test_no_fork_outlives_the_one_who_asked(tmp_path: Path) -> None:
    planning = """
import os, sys, time
from vllm_kv_planner.vllm_adapter import server
def answer(request, asked):
    print("planning", flush=True)
    time.sleep(600)
server.answer = answer
server.answer_in_fork({}, server.Server(sys.argv[1], sys.stdin, sys.stdout))
"""
    folder = tmp_path / "folder"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", planning, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"planning\n"
        process.stdin.close()  # as the system does for a parent that is killed
        assert process.stdout.read() == b""  # nobody has its other end any more
        assert process.wait(60) == -signal.SIGKILL
    assert not folder.exists()
