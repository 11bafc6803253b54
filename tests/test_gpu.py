"""The GPU catalogue and what people call its devices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_kv_planner.errors import InputError, UnknownNameError
from vllm_kv_planner.gpu import GPU, all_gpus, custom_gpu, find_gpu

GIB = 1024**3
MIB = 1024**2


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("h100", "NVIDIA H100 80GB HBM3"),
        ("H100-80GB", "NVIDIA H100 80GB HBM3"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
        ("h100 pcie", "NVIDIA H100 PCIe"),
        ("H100-NVL", "NVIDIA H100 NVL"),
        ("rtx4090", "NVIDIA GeForce RTX 4090"),
        ("4090", "NVIDIA GeForce RTX 4090"),
        ("GeForce RTX 4090", "NVIDIA GeForce RTX 4090"),
        ("a100", "NVIDIA A100-SXM4-80GB"),
        ("A100 40 GB", "NVIDIA A100-SXM4-40GB"),
        ("a100-pcie-40gb", "NVIDIA A100-PCIE-40GB"),
        ("a10", "NVIDIA A10"),
        ("A10G", "NVIDIA A10G"),
        ("l4", "NVIDIA L4"),
        ("L40", "NVIDIA L40"),
        ("l40s", "NVIDIA L40S"),
        ("t4", "Tesla T4"),
        ("v100-32gb", "Tesla V100-SXM2-32GB"),
        ("gh200", "NVIDIA GH200 480GB"),
        ("gh200 144gb", "NVIDIA GH200 144G HBM3e"),
        ("dgx-spark", "NVIDIA GB10"),
        ("RTX PRO 6000", "NVIDIA RTX PRO 6000 Blackwell Server Edition"),
        ("rtx 6000 ada", "NVIDIA RTX 6000 Ada Generation"),
        ("b200", "NVIDIA B200"),
        ("mi300x", "AMD Instinct MI300X"),
    ],
)
def test_free_naming(name: str, found: str) -> None:
    assert find_gpu(name).name == found


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.short_name)
def test_every_device_answers_to_its_own_names(gpu: GPU) -> None:
    assert find_gpu(gpu.name) is gpu
    assert find_gpu(gpu.short_name.lower()) is gpu
    assert find_gpu(gpu.short_name.replace("-", " ")) is gpu


def test_at_least_forty_devices_with_distinct_names() -> None:
    names = [gpu.name for gpu in all_gpus()]
    assert len(names) >= 40
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.short_name)
def test_figures_make_sense_and_name_their_source(gpu: GPU) -> None:
    total = gpu.total_memory_bytes
    nominal = (gpu.nominal_gb or 0) * GIB
    assert 0.85 * nominal < total <= 1.01 * nominal
    if gpu.nvml_total_bytes is not None:
        assert total <= gpu.nvml_total_bytes
        assert "nvml" in gpu.sources
    assert (gpu.torch_total_bytes is None) == ("torch" not in gpu.sources)
    assert gpu.total_memory_is_estimated == (gpu.torch_total_bytes is None)
    assert gpu.batch_defaults_memory_bytes >= total
    assert gpu.platform in ("cuda", "rocm")
    assert gpu.num_sms is not None and 20 <= gpu.num_sms <= 320


def test_what_is_known_of_the_h100() -> None:
    gpu = find_gpu("h100")
    assert gpu.nvml_total_bytes == 85_520_809_984  # 81559 MiB
    assert gpu.torch_total_bytes == round(79.19 * GIB)
    assert gpu.compute_capability == (9, 0)
    assert gpu.num_sms == 132


def test_unified_memory_has_no_nvml_total() -> None:
    gpu = find_gpu("gb10")
    assert gpu.nvml_total_bytes is None
    assert gpu.batch_defaults_memory_bytes == gpu.torch_total_bytes


@pytest.mark.parametrize("name", ["h1000", "rtx 4091", "quadro", "", "a100-48gb", "🙂", "h100h100"])
def test_unknown_names_get_the_nearest(name: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_gpu(name)
    message = str(caught.value)
    assert "did you mean" in message
    assert len(message.splitlines()) == 1


def test_nearest_name_is_near() -> None:
    with pytest.raises(UnknownNameError, match="RTX-4090"):
        find_gpu("rtx 4091")


@given(st.text(max_size=200))
def test_any_name_is_found_or_refused(name: str) -> None:
    try:
        find_gpu(name)
    except UnknownNameError as error:
        assert len(str(error)) < 400


def test_custom_gpu() -> None:
    gpu = custom_gpu(40 * GIB)
    assert gpu.total_memory_bytes == gpu.nvml_total_bytes == 40 * GIB
    assert gpu.compute_capability is None
    like = custom_gpu(40 * GIB, like=find_gpu("h100"))
    assert like.compute_capability == (9, 0)
    assert like.total_memory_bytes == like.batch_defaults_memory_bytes == 40 * GIB
    with pytest.raises(InputError, match="positive"):
        custom_gpu(0)
