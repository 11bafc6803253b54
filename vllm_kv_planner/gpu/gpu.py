"""One GPU as vLLM sees it: two memory totals, capability, size."""

from __future__ import annotations

from typing import Literal

from ..records import dataclass, field

MIB = 1 << 20
GIB = 1 << 30

Platform = Literal["cuda", "rocm"]
_UNIFIED_MEMORY = ("gb10", "thor", "orin")
NOT_CUDA = (0, 0)
"""A compute capability that none of CUDA's kernels asks for."""

# What CUDA leaves of NVML's total, where nobody has printed the device's own figure: the
# least seen in the catalogue for each kind (T4 0.971, L4 0.980, RTX 4090 0.981; H100 0.994,
# H20 0.994, B200 0.996). Rounded down, so that an estimate never promises too much.
_CUDA_SHARE_OF_NVML = {"Hopper and data-centre Blackwell": 0.993, "other": 0.970}


@dataclass(frozen=True, kw_only=True)
class GPU:
    """A device. All totals in bytes; ``None`` means that nobody stated the figure."""

    name: str
    """As NVML names it (``NVIDIA H100 80GB HBM3``): vLLM's rules look for "a100" in it."""
    short_name: str
    """As people name it, and as ``--gpu`` takes it (``H100-SXM-80GB``)."""
    nvml_total_bytes: int | None
    """What NVML reports as total. vLLM's batch defaults go by it."""
    torch_total_bytes: int | None
    """What CUDA and PyTorch report as total. ``gpu_memory_utilization`` multiplies it."""
    compute_capability: tuple[int, int] | None
    """(9, 0) for Hopper; on ROCm the numbers PyTorch shows (gfx942 is (9, 4))."""
    num_sms: int | None
    """Streaming multiprocessors (CUDA) or compute units (ROCm)."""
    memory_bandwidth_gb_s: int | None
    """10^9 bytes a second, from the data sheet."""
    platform: Platform = "cuda"
    nominal_gb: int | None = None
    """The size on the box."""
    sources: dict[str, str] = field(default_factory=dict, hash=False)
    """Where ``nvml``, ``torch`` and the ``rest`` of the figures come from."""
    note: str | None = None

    @property
    def total_memory_bytes(self) -> int:
        """Bytes that ``gpu_memory_utilization`` multiplies: CUDA's figure, else an estimate.

        The estimate (see ``total_memory_is_estimated``) errs on the small side.
        """
        if self.torch_total_bytes is not None:
            return self.torch_total_bytes
        if self.nvml_total_bytes is not None:
            large = self.compute_capability is not None and self.compute_capability[0] in (9, 10)
            kind = "Hopper and data-centre Blackwell" if large else "other"
            return int(self.nvml_total_bytes * _CUDA_SHARE_OF_NVML[kind])
        # AMD's gigabytes are GiB: a 192 GB MI300X shows 191.98 GiB.
        return int((self.nominal_gb or 0) * GIB * 0.999)

    @property
    def cuda_capability(self) -> tuple[int, int]:
        """The compute capability, for rules about CUDA's kernels; ``NOT_CUDA`` on AMD GPUs.

        (9, 0) is Hopper's number there and MI250X's here.
        """
        return self.compute_capability or NOT_CUDA if self.platform == "cuda" else NOT_CUDA

    @property
    def is_integrated(self) -> bool:
        """Whether its memory is the host's; there is one to a machine."""
        return any(word in self.name.lower() for word in _UNIFIED_MEMORY)

    @property
    def total_memory_is_estimated(self) -> bool:
        """True where CUDA's own total for this device is not known."""
        return self.torch_total_bytes is None

    @property
    def batch_defaults_memory_bytes(self) -> int:
        """Bytes that vLLM's batch defaults compare with 70 and 160 GiB.

        NVML's total; CUDA's where NVML reports none (GB10) and on ROCm, as
        ``get_device_total_memory`` does in vllm/platforms (0.33).
        """
        return self.nvml_total_bytes or self.total_memory_bytes
