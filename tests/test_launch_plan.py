"""What ``launch`` plans for: the environment, the version installed, this machine's GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.launches import FITS, LLAMA, TOO_MUCH, launch, with_fake_vllm
from vllm_kv_planner import InputError, plan
from vllm_kv_planner.capacity.launch import installed_version, plan_launch, read_command
from vllm_kv_planner.cli import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_fake_vllm(tmp_path)


def test_the_environment_counts(folder: Path) -> None:
    asked = [*FITS, "--max-model-len", "4096"]
    assert "1024" in launch(folder, "--", *asked).stderr
    allowed = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
    assert launch(folder, "--", f"{allowed}=1", *asked).returncode == 0
    assert launch(folder, "--", "env", f"{allowed}=1", *asked).returncode == 0
    assert launch(folder, "--", *asked, **{allowed: "1"}).returncode == 0
    # a container does not see the variables of the shell that starts it
    image = ["docker", "run", "vllm/vllm-openai", "--model", "gpt2", *asked[3:]]
    contained = launch(folder, "--dry-run", "--", *image, **{allowed: "1"})
    assert (contained.returncode, contained.stdout) == (2, "")


def test_the_version_beside_the_program_is_planned(folder: Path) -> None:
    packages = folder / "lib" / "python3.11" / "site-packages"
    (packages / "vllm_kv_planner-0.1.0.dist-info").mkdir(parents=True)
    program = str(folder / "bin" / "vllm")
    assert installed_version(program) is None
    (packages / "vllm-0.15.1.dist-info").mkdir()
    assert installed_version(program) == "0.15.1"
    done = launch(folder, "--dry-run", "--gpu", "H100", "--", program, *LLAMA[1:])
    assert "rules of vLLM 0.15" in done.stdout
    named = ["--vllm-version", "0.19", "--gpu", "H100"]
    done = launch(folder, "--dry-run", *named, "--", program, *LLAMA[1:])
    assert "rules of vLLM 0.19" in done.stdout
    (packages / "vllm-0.15.1.dist-info").rename(packages / "vllm-9.9.dist-info")
    done = launch(folder, "--dry-run", "--gpu", "H100", "--", program, *LLAMA[1:])
    assert "vLLM 9.9 is installed" in done.stdout and "rules of vLLM 0.33" in done.stdout


def test_without_a_gpu_the_plan_says_which_it_took(folder: Path) -> None:
    done = launch(folder, "--dry-run", "--", *FITS)
    assert "note: no GPU " in done.stdout


NVML = """
class Memory:
    total = 24152899584  # bytes that NVML reports for an L4

def nvmlInit(): pass
def nvmlShutdown(): pass
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(number): return number
def nvmlDeviceGetUUID(handle): return f"GPU-{handle}"
def nvmlDeviceGetName(handle): return ["NVIDIA L4", "NVIDIA H100 80GB HBM3"][handle]
def nvmlDeviceGetMemoryInfo(handle): return Memory
def nvmlDeviceGetCudaComputeCapability(handle): return [(8, 9), (9, 0)][handle]
"""


def test_this_machines_gpu_is_planned_for(folder: Path) -> None:
    (folder / "pynvml.py").write_text(NVML)
    beside = {"PYTHONPATH": str(folder)}
    for gpu in ([], ["--gpu", "auto"]):
        done = launch(folder, "--dry-run", *gpu, "--", *FITS, "-tp", "4", **beside)
        assert "4 x NVIDIA L4" in done.stdout, done.stderr
    done = launch(folder, "--dry-run", "--", *FITS, "-tp", "4", **beside)
    assert "planned for this machine's NVIDIA L4" in done.stdout
    assert "asks for 4 GPUs, and this machine shows 2" in done.stdout
    # what stands before the command counts: CUDA numbers the devices it shows
    done = launch(folder, "--dry-run", "--", "CUDA_VISIBLE_DEVICES=1", *FITS, **beside)
    assert "1 x NVIDIA H100" in done.stdout


MIG = """
def nvmlDeviceGetMigMode(handle): return [handle, 1]  # the H100 is divided
def nvmlDeviceGetMaxMigDeviceCount(handle): return 7
def nvmlDeviceGetMigDeviceHandleByIndex(handle, number):
    if number not in (1, 3): raise RuntimeError("no slice")
    return 10 * number
def nvmlDeviceGetUUID(handle): return f"{'MIG' if handle > 1 else 'GPU'}-{handle}"
def nvmlDeviceGetName(handle):
    return f"NVIDIA H100 80GB HBM3 MIG {'1g.10gb' if handle == 10 else '3g.40gb'}"
def nvmlDeviceGetCudaComputeCapability(handle): return (9, 0)
"""


def test_a_divided_gpu_is_planned_as_its_slice(folder: Path) -> None:
    (folder / "pynvml.py").write_text(NVML + MIG)
    beside = {"PYTHONPATH": str(folder)}
    done = launch(folder, "--dry-run", "--", *FITS, **beside)
    assert "1 x NVIDIA H100 80GB HBM3 MIG 1g.10gb" in done.stdout, done.stderr
    done = launch(folder, "--dry-run", "--", "CUDA_VISIBLE_DEVICES=MIG-30", *FITS, **beside)
    assert "1 x NVIDIA H100 80GB HBM3 MIG 3g.40gb" in done.stdout, done.stderr


def test_from_python() -> None:
    launched = plan_launch("A=b vllm serve gpt2 --kv-cache-memory-bytes 10M", gpu="H100")
    assert launched.verdict == "does not fit"
    assert launched.command.words == tuple(TOO_MUCH)
    assert launched.command.variables == {"A": "b"}
    (change,) = launched.plan.changes
    assert plan("gpt2", gpu="H100", **{change.flag: change.value}).fits
    assert "A" not in os.environ
    with pytest.raises(InputError, match="not a program"):
        plan_launch(["nonesuch-program", *FITS], gpu="H100").start()
    with pytest.raises(InputError, match="NUL"):
        read_command(["vllm", "a\0b"])


def test_nothing_is_left_in_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    assert main(["launch", "--dry-run", "--", "LAUNCH_LEFT=1", *FITS]) == 0
    assert dict(os.environ) == before
