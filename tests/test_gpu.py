"""The GPU catalogue, what people call its devices, and what a name says beside the device."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vllm_kv_planner as planner
from vllm_kv_planner.capacity.fit.candidates import candidates
from vllm_kv_planner.capacity.fit.constraints import Wanted
from vllm_kv_planner.cli import main
from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.errors import InputError, UnknownNameError, UnsupportedError
from vllm_kv_planner.gpu import GPU, all_gpus, custom_gpu, find_gpu, offered_gpus
from vllm_kv_planner.gpu.catalogue import named_gpu

from .shared import needs_shared, records

GIB = 1024**3
MIB = 1024**2

# the device, and what people call it
NAMES = {
    "H100-SXM-80GB": "h100|H100-80GB|NVIDIA H100 80GB HBM3|NVIDIA-H100-80GB-HBM3|nvidia-h100-80gb|"
    "nvidia-h100-mega-80gb|NVIDIA_H100_MEGA_80GB|H100 SXM5|dgx h100",
    "H100-PCIe-80GB": "h100 pcie|NVIDIA H100 PCIe",
    "H100-NVL-94GB": "H100-NVL|H100 94GB",
    "H200-141GB": "H200|nvidia-h200-141gb|NVIDIA H200",
    "H20-141GB": "H20-3e|H20 141GB",
    "B200-180GB": "b200|nvidia-b200",
    "GB10-128GB": "dgx-spark|DGX Spark GB10|NVIDIA GB10",
    "GH200-96GB": "gh200|NVIDIA GH200 480GB|NVIDIA GH200 120GB",
    "GH200-144GB": "gh200 144gb",
    "A100-SXM-80GB": "a100|gpu.nvidia.com/class=A100_NVLINK_80GB|nvidia-a100-80gb|"
    "NVIDIA A100-SXM4-80GB",
    "A100-PCIe-80GB": "A100_PCIE_80GB|NVIDIA A100 80GB PCIe",
    "A100-SXM-40GB": "A100 40 GB|A100_NVLINK|nvidia-tesla-a100|NVIDIA_TESLA_A100|"
    "cloud.google.com/gke-accelerator: nvidia-tesla-a100",
    "A100-PCIe-40GB": "a100-pcie-40gb",
    "A800-SXM-80GB": "A800",
    "A800-PCIe-80GB": "NVIDIA A800 80GB PCIe",
    "A10-24GB": "a10|NVIDIA A10",
    "A10G-24GB": "A10G",
    "A2-16GB": "A2",
    "A16-16GB": "NVIDIA A16",
    "L4-24GB": "l4|nvidia-l4|nvidia.com/gpu.product=NVIDIA-L4",
    "L2-24GB": "L2",
    "L20-48GB": "L20|NVIDIA L20",
    "L40-48GB": "L40",
    "L40S-48GB": "l40s",
    "T4-16GB": "t4|Tesla T4|nvidia-tesla-t4|Tesla-T4-SHARED",
    "V100-32GB": "v100-32gb|Tesla V100-SXM3-32GB-H|v100l|Tesla V100S-PCIE-32GB",
    "V100-16GB": "Tesla V100-FHHL-16GB|Tesla_V100_NVLINK",
    "Quadro-RTX-5000-16GB": "Quadro RTX 5000 with Max-Q Design",
    "RTX-PRO-6000-Server-96GB": "RTX PRO 6000|RTX 6000 Pro|nvidia-rtx-pro-6000|"
    "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
    "RTX-PRO-6000-Max-Q-96GB": "rtx pro 6000 max-q",
    "RTX-PRO-4500-Server-32GB": "RTX PRO 4500 Blackwell Server Edition",
    "RTX-6000-Ada-48GB": "rtx 6000 ada|NVIDIA RTX 6000 Ada Generation",
    "RTX-4000-SFF-Ada-20GB": "RTX 4000 SFF Ada Generation",
    "RTX-5000-Ada-Laptop-16GB": "NVIDIA RTX 5000 Ada Generation Laptop GPU",
    "RTX-A6000-48GB": "A6000|Quadro RTX A6000",
    "RTX-A2000-6GB": "RTX A2000",
    "RTX-A2000-12GB": "NVIDIA RTX A2000 12GB",
    "Quadro-RTX-8000-48GB": "Quadro RTX 8000|rtx8000",
    "TITAN-RTX-24GB": "Titan RTX",
    "T1000-8GB": "NVIDIA T1000 8GB",
    "RTX-4090-24GB": "rtx4090|4090|GeForce RTX 4090",
    "RTX-4090-48GB": "RTX 4090 48GB",
    "RTX-4090-D-24GB": "RTX 4090 D|4090D",
    "RTX-4090-Laptop-16GB": "NVIDIA GeForce RTX 4090 Laptop GPU|4090 mobile",
    "RTX-5090-D-32GB": "RTX 5090 D",
    "RTX-5090-D-v2-24GB": "NVIDIA GeForce RTX 5090 D v2",
    "RTX-5070-12GB": "RTX 5070",
    "RTX-5070-Ti-Laptop-12GB": "RTX 5070 Ti Laptop",
    "RTX-4070-Ti-SUPER-16GB": "4070 Ti Super|4070TiS",
    "RTX-3050-8GB": "RTX 3050",
    "RTX-3050-6GB": "RTX 3050 6GB",
    "RTX-2080-Ti-11GB": "2080ti",
    "RTX-2070-SUPER-Max-Q-8GB": "NVIDIA GeForce RTX 2070 SUPER with Max-Q Design",
    "Jetson-AGX-Orin-64GB": "AGX Orin|Jetson AGX Orin 64GB Developer Kit",
    "Jetson-Orin-Nano-8GB": "Jetson Orin Nano Super",
    "Jetson-AGX-Thor-128GB": "Jetson Thor|NVIDIA Thor",
    "MI210-64GB": "AMD Instinct MI210",
    "MI250-64GB": "MI250|AMD Instinct MI250X/MI250",
    "MI300X-192GB": "mi300x|AMD Instinct MI300X OAM|AMD_Instinct_MI300X_OAM|gfx942|"
    "amd.com/gpu.product-name=AMD_Instinct_MI300X_OAM",
    "MI308X-192GB": "MI308X",
    "MI350X-288GB": "MI350X",
    "RX-7900-XTX-24GB": "7900 XTX|Radeon RX 7900 XTX|gfx1100",
    "RX-9070-XT-16GB": "RX 9070 XT",
    "W7900-48GB": "Radeon PRO W7900|gfx1100 48 GiB",
    "R9700-32GB": "gfx1201|AMD_Radeon_AI_PRO_R9700",
    "Strix-Halo-128GB": "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S|"
    "Strix Halo|gfx1151|Radeon 8060S Graphics|AMD_Radeon_8060S_Graphics",
    "Arc-Pro-B60-24GB": "Intel(R) Arc(TM) Pro B60 Graphics|Arc Pro B60",
    "Arc-Pro-B70-32GB": "B70",
}

# what a name says of the machine: the device and how many
MACHINES = {
    "8xH100": ("H100-SXM-80GB", 8),
    "H100 x8": ("H100-SXM-80GB", 8),
    "NVIDIA H100 Tensor Core GPU (x8)": ("H100-SXM-80GB", 8),
    "A100 SXM4 80GB 4x": ("A100-SXM-80GB", 4),
    "RTX_4090:2": ("RTX-4090-24GB", 2),
    "4 x L40S": ("L40S-48GB", 4),
    "2x4090": ("RTX-4090-24GB", 2),
    "2 L4": ("L4-24GB", 2),
    "MI300X:8": ("MI300X-192GB", 8),
    "gpu:a100:4": ("A100-SXM-80GB", 4),
    "--gres=gpu:h100:8": ("H100-SXM-80GB", 8),
    "gres/gpu:a100=4": ("A100-SXM-80GB", 4),
    "gres:gpu:v100:4": ("V100-16GB", 4),
    "8 H100s": ("H100-SXM-80GB", 8),
    "4 L40S": ("L40S-48GB", 4),
    "gd-8xh100ib-i128": ("H100-SXM-80GB", 8),
    "BM.GPU.A100-v2.8": ("A100-SXM-80GB", 8),
    "gpu_8x_h100_sxm5": ("H100-SXM-80GB", 8),
    "gpu_1x_a100_sxm4": ("A100-SXM-40GB", 1),
    "p5.48xlarge": ("H100-SXM-80GB", 8),
    "ml.p5en.48xlarge": ("H200-141GB", 8),
    "p4d.24xlarge": ("A100-SXM-40GB", 8),
    "p4de.24xlarge": ("A100-SXM-80GB", 8),
    "p6-b200.48xlarge": ("B200-180GB", 8),
    "g4dn.12xlarge": ("T4-16GB", 4),
    "g5.xlarge": ("A10G-24GB", 1),
    "g6.48xlarge": ("L4-24GB", 8),
    "g6e.12xlarge": ("L40S-48GB", 4),
    "a2-highgpu-4g": ("A100-SXM-40GB", 4),
    "a2-megagpu-16g": ("A100-SXM-40GB", 16),
    "a2-ultragpu-8g": ("A100-SXM-80GB", 8),
    "a3-ultragpu-8g": ("H200-141GB", 8),
    "a4-highgpu-8g": ("B200-180GB", 8),
    "g2-standard-24": ("L4-24GB", 2),
    "Standard_ND96isr_H100_v5": ("H100-SXM-80GB", 8),
    "ND96asr_v4": ("A100-SXM-40GB", 8),
    "Standard_NC24ads_A100_v4": ("A100-PCIe-80GB", 1),
    "Standard_NC80adis_H100_v5": ("H100-NVL-94GB", 2),
    "Standard_NV72ads_A10_v5": ("A10-24GB", 2),
    "Standard_ND96isr_MI300X_v5": ("MI300X-192GB", 8),
}


@pytest.mark.parametrize("device", NAMES)
def test_names_people_use(device: str) -> None:
    for name in NAMES[device].split("|"):
        assert find_gpu(name).short_name == device, name


@pytest.mark.parametrize("name", MACHINES)
def test_names_that_say_how_many(name: str) -> None:
    gpu = find_gpu(name)
    assert (gpu.short_name, gpu.machine_gpus) == MACHINES[name]


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.short_name)
def test_every_device_answers_to_its_own_names(gpu: GPU) -> None:
    for name in (gpu.short_name, gpu.short_name.lower(), gpu.short_name.replace("-", " ")):
        assert find_gpu(name).short_name == gpu.short_name
    for name in (gpu.name, gpu.name.replace(" ", "-")):  # cards of one name: the usual one
        assert find_gpu(name).name == gpu.name


def test_cards_of_one_name_are_told_apart_by_their_total() -> None:
    name = "NVIDIA GeForce RTX 4090"
    assert named_gpu(name, 49140 * MIB).short_name == "RTX-4090-48GB"
    assert named_gpu(name, 24564 * MIB).short_name == "RTX-4090-24GB"


def test_short_names_are_distinct_and_the_lines_are_there() -> None:
    names = [gpu.short_name for gpu in all_gpus()]
    assert len(set(names)) == len(names) >= 200
    assert {gpu.kind for gpu in all_gpus()} == {
        *("data centre", "workstation", "desktop", "laptop", "embedded")
    }
    assert {gpu.kind for gpu in offered_gpus()} == {"data centre", "workstation", "desktop"}
    assert not [gpu.name for gpu in offered_gpus() if gpu.unified_memory and gpu.kind == "embedded"]


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.short_name)
def test_figures_make_sense_and_name_their_source(gpu: GPU) -> None:
    total = gpu.total_memory_bytes
    nominal = (gpu.nominal_gb or 0) * GIB
    assert (0.85 if not gpu.unified_memory else 0.45) * nominal < total <= 1.01 * nominal
    if gpu.nvml_total_bytes is not None:
        assert total <= gpu.nvml_total_bytes
        assert "nvml" in gpu.sources
    assert (gpu.torch_total_bytes is None) == ("torch" not in gpu.sources)
    assert gpu.total_memory_is_estimated == ("unconfirmed" in gpu.total_memory_source)
    is_apu = gpu.platform == "rocm" and gpu.kind == "embedded"  # their VRAM is the BIOS's word
    assert gpu.batch_defaults_memory_bytes >= (0 if is_apu else total)
    assert (gpu.compute_capability is None) == (gpu.platform == "xpu")
    if gpu.platform == "cuda":
        assert (7, 0) <= (gpu.compute_capability or (0, 0)) <= (12, 1)
    assert gpu.num_sms is None or 4 <= gpu.num_sms <= 320


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.short_name)
def test_an_estimate_of_a_printed_total_would_not_have_promised_more(gpu: GPU) -> None:
    from vllm_kv_planner.records import replace

    if gpu.torch_total_bytes is not None and gpu.nvml_total_bytes is not None:
        estimated = replace(gpu, torch_total_bytes=None).total_memory_bytes
        # at most what a driver's version changes
        assert estimated <= gpu.torch_total_bytes * 1.008, gpu.short_name
        assert estimated >= gpu.torch_total_bytes * 0.95, gpu.short_name


# as engines printed them
PRINTED_GIB = {
    "RTX PRO 4500": 33_689_829_376 / GIB,
    **{"RTX 5080": 15.48, "RTX A4000": 15.61, "H200 NVL": 139.8, "RTX PRO 6000": 94.97},
    **{"RTX 4090": 23.52, "L40S": 44.42, "Arc Pro B60": 22.71, "W7900": 47.98},
    **{"A100 1g.10gb": None, "RTX PRO 4500 1g.16gb": 15.66, "H200 1g.18gb": 16.0},
}


@pytest.mark.parametrize("name", PRINTED_GIB)
def test_totals_that_engines_printed_win(name: str) -> None:
    gpu, printed = find_gpu(name), PRINTED_GIB[name]
    if printed is None:
        assert gpu.torch_total_bytes is None
        assert "unconfirmed" in gpu.total_memory_source
    else:
        assert gpu.torch_total_bytes == pytest.approx(printed * GIB, abs=6 * MIB)


def test_totals_of_the_ground_truth() -> None:
    """Needs ``../shared/ground_truth``: every total that an engine printed of a device it named."""
    seen = 0
    needs_shared()
    names = ("startup_logs.jsonl", "startup_logs_2.jsonl", "startup_logs_3.jsonl")
    for row in (row for name in names for row in records(name)):
        name, printed = row["gpu"], row["gpu_total_gib"]
        if name is None or printed is None:
            continue
        word = name.replace(", MIG 1g.16gb slice", " 1g.16gb").partition(" (")[0]
        if word == "sm_75 24 GB":
            continue  # which card is not said
        gpu = find_gpu(word)
        under_windows = gpu.nvml_total_bytes is not None and printed * GIB >= (
            gpu.nvml_total_bytes - 12 * MIB
        )
        if under_windows or (name, printed) == ("RTX 3090", 24.0):
            continue  # CUDA has NVML's whole total there
        seen += 1
        assert gpu.total_memory_bytes / GIB == pytest.approx(printed, abs=0.06), (name, printed)
    assert seen >= 25


def test_what_is_known_of_the_h100() -> None:
    gpu = find_gpu("h100")
    assert gpu.nvml_total_bytes == 85_520_809_984  # 81559 MiB
    assert gpu.torch_total_bytes == round(79.19 * GIB)
    assert gpu.compute_capability == (9, 0)
    assert gpu.num_sms == 132
    assert gpu.notes == ()


def test_unified_memory() -> None:
    gpu = find_gpu("gb10")
    assert gpu.nvml_total_bytes is None
    assert gpu.batch_defaults_memory_bytes == gpu.torch_total_bytes
    shared = {gpu.short_name for gpu in all_gpus() if gpu.unified_memory}
    assert {"GB10-128GB", "Jetson-AGX-Thor-128GB", "Jetson-Orin-NX-16GB"} <= shared
    assert {"Strix-Halo-128GB", "MI300A-128GB"} <= shared
    assert not find_gpu("gh200").unified_memory  # its HBM is its own
    for small in ("Orin Nano", "Orin NX", "AGX Orin 32GB", "Thor"):
        gpu = find_gpu(small)
        assert 0 < gpu.host_wants_bytes < gpu.total_memory_bytes / 2
    assert find_gpu("Strix Halo").host_wants_bytes == 0  # the host has the other half


@pytest.mark.parametrize(
    ("name", "gib", "sms"),
    [
        ("H100 1g.10gb", (9, 10), 16),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", (38, 39.6), 60),
        ("NVIDIA-A100-SXM4-40GB-MIG-3g.20gb", (19, 19.75), 42),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb.me", (9, 9.9), 14),
        ("NVIDIA-A100-SXM4-80GB-MIG-3g.40gb-SHARED", (39.4, 39.6), 42),
        ("A30 2g.12gb", (10, 12), 28),
        ("H200 MIG 1g.18gb", (16, 16), 16),
        ("a100_3g.20gb", (19, 19.75), 42),  # of the 40 GB card: the profile tells
        ("B200 1g.23gb", (19, 22.4), 18),
    ],
)
def test_mig_slices(name: str, gib: tuple[float, float], sms: int) -> None:
    gpu = find_gpu(name)
    assert gib[0] <= gpu.total_memory_bytes / GIB <= gib[1]
    assert gpu.num_sms == sms
    assert gpu.nvml_total_bytes == find_gpu(gpu.short_name.partition("-MIG")[0]).nvml_total_bytes
    assert find_gpu(gpu.short_name) == find_gpu(gpu.short_name.lower())
    assert any("MIG slice" in note for note in gpu.notes)
    assert ("shared" in " ".join(gpu.notes)) == name.endswith("SHARED")


@pytest.mark.parametrize("name", ["H100 1g.18gb", "L4 1g.6gb", "A100 40GB 3g.40gb", "A100 1g.18gb"])
def test_mig_profiles_that_a_card_has_not(name: str) -> None:
    with pytest.raises(InputError, match="has no MIG profile"):
        find_gpu(name)


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("h1000", "H100"),
        ("rtx 4091", "RTX-4090"),
        ("a100-48gb", "A100"),
        ("h100h100", "H100"),
        ("RTX 6000", "RTX-6000-Ada"),
        ("quadro", "Quadro-RTX"),
        ("L40S-48C", "L40S"),
    ],
)
def test_names_that_are_near_are_suggested(name: str, suggested: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean .*{suggested}") as caught:
        find_gpu(name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "what"),
    [
        *(("TPU v6e", "Google TPU"), ("v5e-8", "Google TPU"), ("cpu", "a CPU")),
        *(("Gaudi 3", "Gaudi"), ("M3 Max", "Apple"), ("trn1.32xlarge", "Trainium")),
        *(("Ascend 910B", "Ascend"), ("GTX 1080 Ti", "older"), ("Tesla P100", "older")),
        *(("nvidia-tesla-p4", "older"), ("AMD Instinct MI100", "older"), ("gfx906", "older")),
        *(("g4ad.xlarge", "older"), ("VR200", "newer"), ("Rubin CPX", "newer")),
        *(("potato", "gpus"), ("🙂", "gpus"), ("rtx 9999", "gpus"), ("g5.metal", "gpus")),
        *(("nvidia.com/mig-2g.20gb: 1", "MIG profile"), ("1g.10gb", "MIG profile")),
        *(("", "empty"), ("   ", "empty"), ("Standard_NV6ads_A10_v5", "a sixth of an A10")),
    ],
)
def test_no_absurd_suggestions(name: str, what: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_gpu(name)
    message = str(caught.value)
    assert what in message
    assert "did you mean" not in message
    assert "MIG" in message or ("H100" not in message and "H200" not in message)


@given(st.text(max_size=200))
def test_any_name_is_found_or_refused(name: str) -> None:
    try:
        find_gpu(name)
    except InputError as error:
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


def small(name: str, **flags: object) -> planner.Plan:
    """1 GiB of KV cache of a small model."""
    return planner.plan(
        "Qwen/Qwen3-0.6B",
        gpu=name,
        planner="standalone",
        kv_cache_memory_bytes=GIB,
        max_model_len=4096,
        **flags,
    )


@pytest.mark.parametrize(
    "gpu",
    [gpu for gpu in all_gpus() if gpu.short_name not in ("Arc-A770-16GB",)],
    ids=lambda gpu: gpu.short_name,
)
def test_every_device_is_planned(gpu: GPU) -> None:
    plan = small(gpu.short_name)
    # 28 layers of 2 x 8 x 128 half floats: 114,688 bytes a token; Intel's kernels take 64 tokens
    tokens = 64 if gpu.platform == "xpu" else 16
    assert plan.kv_cache.num_gpu_blocks == GIB // (114_688 * tokens)
    assert plan.gpu.total_memory_bytes == gpu.torch_total_bytes  # null where nobody printed it
    notes = " ".join(plan.notes)
    assert ("unconfirmed" in notes) == gpu.total_memory_is_estimated
    assert ("uncalibrated" in notes) or gpu.platform != "xpu"


# vLLM 0.33 itself with 2 GiB of KV memory (--planner vllm): backend, block size, blocks
ANSWERS = {
    ("RX 7900 XTX", "Qwen/Qwen3-0.6B"): ("ROCM_ATTN", 16, 1170),
    ("RX 7900 XTX", "openai/gpt-oss-20b"): ("TRITON_ATTN", 16, 5461),
    ("RX 7900 XTX", "google/gemma-3-4b-it"): ("TRITON_ATTN", 16, 6553),
    ("Strix Halo", "openai/gpt-oss-20b"): ("TRITON_ATTN", 16, 5461),
    ("Jetson Thor", "Qwen/Qwen3-0.6B"): ("FLASH_ATTN", 16, 1170),
    ("Jetson Thor", "openai/gpt-oss-20b"): ("TRITON_ATTN", 16, 5461),
    ("Jetson Thor", "google/gemma-3-4b-it"): ("TRITON_ATTN", 16, 6553),
    ("AGX Orin", "openai/gpt-oss-20b"): ("TRITON_ATTN", 16, 5461),
}


@pytest.mark.parametrize(("gpu", "model"), ANSWERS)
def test_new_architectures_are_planned_as_vllm_plans_them(gpu: str, model: str) -> None:
    plan = planner.plan(
        model,
        gpu=gpu,
        planner="standalone",
        kv_cache_memory_bytes=2 * GIB,
        max_model_len=4096,
        max_num_seqs=8,
    )
    found = plan.engine.attention_backend, plan.engine.block_size, plan.kv_cache.num_gpu_blocks
    assert found == ANSWERS[gpu, model]


def test_batch_defaults_follow_the_device_whatever_it_was_called() -> None:
    assert small("8xA100").engine.max_num_batched_tokens == 2048  # "a100" in its name
    assert small("p5.48xlarge").engine.max_num_batched_tokens == 8192
    assert small("MI355X").engine.max_num_batched_tokens == 16384
    # vLLM asks NVML for the whole card behind a slice
    assert small("H100 1g.10gb").engine.max_num_batched_tokens == 8192
    assert small("DGX Spark").engine.max_num_batched_tokens == 2048


def test_a_number_of_gpus_is_the_machines() -> None:
    plan = small("p5.48xlarge", tensor_parallel_size=2)
    assert plan.gpu.num_gpus == 2
    assert any("8 of them: the engine's flags use 2" in note for note in plan.notes)
    with pytest.raises(InputError, match="4 x H100-SXM-80GB, and the flags need 8 GPUs"):
        small("4xH100", tensor_parallel_size=8)


def test_which_card_was_taken_is_said_where_another_has_less() -> None:
    assert any("taken as A100-SXM-80GB; A100-SXM-40GB" in note for note in small("A100").notes)
    assert small("A100 80GB").notes == ()
    assert small("H100").notes == ()


def test_fit_takes_the_machines_number() -> None:
    def most(*names: str) -> dict[str, int]:
        constraints = Wanted(gpu=names).constraints(EngineArgs(model="any"))
        found: dict[str, int] = {}
        for each in candidates(constraints, [False]):
            name = each.gpu.short_name
            found[name] = max(found.get(name, 0), each.num_gpus)
        return found

    assert most("H100") == {"H100-SXM-80GB": 8}
    assert most("a2-megagpu-16g") == {"A100-SXM-40GB": 16}
    assert most("4xL40S", "8xH100") == {"L40S-48GB": 4, "H100-SXM-80GB": 8}
    assert most("DGX Spark") == {"GB10-128GB": 1}
    result = planner.fit("meta-llama/Llama-3.1-8B-Instruct", gpu="2xL40S", max_model_len=4096)
    assert result.max_gpus == 2
    assert result.best is not None


@pytest.mark.parametrize(
    ("model", "flags", "error", "said"),
    [
        ("deepseek-ai/DeepSeek-V2-Lite", {}, UnsupportedError, "MLA.* on Intel GPUs"),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", {}, UnsupportedError, "hybrid.* on Intel GPUs"),
        ("Qwen/Qwen3-8B", {"attention_backend": "FLASHINFER"}, UnsupportedError, "on Intel GPUs"),
        ("Qwen/Qwen3-8B", {"quantization": "experts_int8"}, InputError, "not supported in xpu"),
    ],
)
def test_what_has_no_rule_on_intel_is_refused(model, flags, error, said) -> None:
    with pytest.raises(error, match=said):
        planner.plan(model, gpu="Arc Pro B60", kv_cache_memory_bytes=GIB, **flags)


def test_a_published_start_on_an_arc_pro_b60() -> None:
    """gpt-oss-20b on 0.29: 3.12 GiB hold 131,815 tokens, 1.01 requests of 131,072."""
    plan = planner.plan(
        "openai/gpt-oss-20b",
        gpu="Arc Pro B60",
        vllm_version="0.29",
        kv_cache_memory_bytes=round(3.12 * GIB),
        enforce_eager=True,
    )
    assert plan.engine.block_size == 64
    assert plan.kv_cache.kv_cache_size_tokens == pytest.approx(131_815, rel=0.002)


def test_gpus_lists_the_catalogue(capsys) -> None:
    assert main(["gpus"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(all_gpus())
    assert max(map(len, lines)) <= 80
    for name in ("H100-SXM-80GB", "MI300X-192GB", "RTX-4090-24GB"):
        assert any(line.startswith(name) for line in lines)


def test_gpus_finds_words(capsys) -> None:
    assert main(["gpus", "p5.48xlarge"]) == 0
    assert "1g.10gb" in capsys.readouterr().out
    assert main(["gpus", "RTX", "4090", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in found} >= {"RTX-4090-24GB", "RTX-4090-Laptop-16GB"}
    assert found[0]["confirmed"] is True
    assert found[0]["total_memory_bytes"] == round(23.52 * GIB)
    assert main(["gpus", "5070", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("name,")
    for word, name in (("radeon", "R9700"), ("laptop", "RTX-4090-Laptop-16GB"), ("xpu", "Arc")):
        assert main(["gpus", word]) == 0
        out = capsys.readouterr().out
        assert name in out and "H100" not in out
    assert main(["gpus", "potato"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "potato" in err


def test_an_empty_gpu_is_an_error(capsys) -> None:
    assert main(["plan", "Qwen/Qwen3-8B", "--gpu", ""]) == 2
    assert "--gpu" in capsys.readouterr().err
    with pytest.raises(UnknownNameError, match="--gpu"):
        planner.plan("Qwen/Qwen3-8B", gpu="")


def test_an_apu_steps_by_what_the_bios_carves_out() -> None:
    """A published start of 0.28 on 80 GiB: compiled for 2,048 tokens."""
    found = planner.plan("Qwen/Qwen3-8B", gpu=custom_gpu(80 * GIB, like=find_gpu("Strix Halo")))
    assert (found.engine.max_num_seqs, found.engine.max_num_batched_tokens) == (256, 2048)
