"""The GPU that the child process answers for, handed over in an environment variable."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import lru_cache

from ..errors import UnsupportedError
from ..gpu.gpu import GPU
from .plugin import ABSENT_GPU

# Bytes of shared memory that one block may opt in to, by compute capability. Kernels that size
# themselves by it are picked at import. Source: CUDA C++ programming guide, technical
# specifications per compute capability (less the 1 KiB CUDA keeps).
_SHARED_MEMORY = {
    (7, 0): 98304,
    (7, 5): 65536,
    (8, 0): 166912,
    (8, 6): 101376,
    (8, 7): 166912,
    (8, 9): 101376,
    (9, 0): 232448,
    (10, 0): 232448,
    (10, 3): 232448,
    (11, 0): 232448,
    (12, 0): 101376,
    (12, 1): 101376,
}
_OLDEST = 49152
# The local data share of a compute unit. Source: AMD's CDNA 3, CDNA 4 and RDNA 4 ISA guides.
_LOCAL_DATA_SHARE = {
    **{(9, 0): 65536, (9, 4): 65536, (9, 5): 163840},
    **{(11, 0): 65536, (11, 5): 65536, (12, 0): 65536},
}
# AMD's name of an architecture. Source: vLLM 0.33 platforms/rocm.py ``_capability_from_gcn_arch``.
_GCN_ARCHITECTURES = {
    **{(9, 0): "gfx90a", (9, 4): "gfx942", (9, 5): "gfx950"},
    **{(11, 0): "gfx1100", (11, 5): "gfx1151", (12, 0): "gfx1201"},
}


@dataclass(frozen=True, kw_only=True)
class AbsentGPU:
    """What vLLM, torch and Triton may ask about the device."""

    name: str
    capability: tuple[int, int]
    nvml_total_bytes: int
    torch_total_bytes: int
    num_sms: int
    is_integrated: bool
    shared_memory_bytes: int
    gcn_architecture: str = ""
    """``gfx942`` and the like; empty on NVIDIA GPUs."""

    def to_json(self) -> str:
        """For the environment variable."""
        return json.dumps(asdict(self))


def describe_gpu(gpu: GPU) -> AbsentGPU:
    """A GPU of the catalogue as the child needs it.

    Raises:
        UnsupportedError: vLLM's code cannot stand for this device.
    """
    if gpu.platform == "xpu":
        raise UnsupportedError(
            f"--planner vllm has no Intel platform to ask about {gpu.name}: its kernels cannot be "
            "imported elsewhere; --planner standalone plans its blocks"
        )
    if gpu.compute_capability is None:
        raise UnsupportedError(
            f"--planner vllm needs the compute capability of {gpu.name}: name a GPU that is like it"
        )
    return AbsentGPU(
        name=gpu.name,
        capability=gpu.compute_capability,
        nvml_total_bytes=gpu.batch_defaults_memory_bytes,
        torch_total_bytes=gpu.total_memory_bytes,
        num_sms=gpu.num_sms or 108,
        is_integrated=gpu.unified_memory,
        shared_memory_bytes=shared_memory(gpu.compute_capability, gpu.platform),
        gcn_architecture=gcn_architecture(gpu),
    )


def shared_memory(capability: tuple[int, int], platform: str) -> int:
    """Bytes that one block of threads may use."""
    known = _SHARED_MEMORY if platform == "cuda" else _LOCAL_DATA_SHARE
    return known.get(capability, _OLDEST)


def gcn_architecture(gpu: GPU) -> str:
    """AMD's name of the GPU's architecture; empty on NVIDIA GPUs.

    Raises:
        UnsupportedError: An AMD architecture that is not known here.
    """
    if gpu.platform == "cuda":
        return ""
    name = _GCN_ARCHITECTURES.get(gpu.compute_capability or (0, 0))
    if name is None:
        raise UnsupportedError(
            f"--planner vllm: the architecture of {gpu.name} is none of "
            f"{', '.join(_GCN_ARCHITECTURES.values())}"
        )
    return name


@lru_cache(maxsize=1)
def absent_gpu() -> AbsentGPU:
    """The GPU this process answers for."""
    values = json.loads(os.environ[ABSENT_GPU])
    major, minor = values.pop("capability")
    return AbsentGPU(capability=(major, minor), **values)


class DeviceCount:
    """How many such GPUs there are: as many as an engine asks for, eight at least.

    vLLM refuses, or wants Ray, where an engine needs more than the machine has.
    """

    value = 8

    @classmethod
    def at_least(cls, number: int) -> None:
        """Make room for an engine of ``number`` GPUs."""
        cls.value = max(8, number)
