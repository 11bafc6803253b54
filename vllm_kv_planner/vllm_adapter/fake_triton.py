"""Answer Triton's driver questions from the catalogue.

Some kernels' modules (flash-linear-attention among them) ask Triton for the target and its shared
memory while being imported; Triton would compile a shim against the driver to find out.
"""

from __future__ import annotations

from typing import Any

from .absent_gpu import absent_gpu


class _Utilities:
    @staticmethod
    def get_device_properties(device: int = 0) -> dict[str, int]:
        """What kernels size themselves by."""
        gpu = absent_gpu()
        return {
            "max_shared_mem": gpu.shared_memory_bytes,
            "max_num_regs": 65536,
            "multiprocessor_count": gpu.num_sms,
            "warpSize": 64 if gpu.gcn_architecture else 32,
            "sm_clock_rate": 1_000_000,
            "mem_clock_rate": 1_000_000,
            "mem_bus_width": 4096,
        }


class FakeDriver:
    """Triton's active driver."""

    utils = _Utilities

    def get_current_target(self) -> Any:
        """The capability as Triton writes it: 90 for Hopper, gfx942 for MI300X."""
        from triton.backends.compiler import GPUTarget

        gpu = absent_gpu()
        if gpu.gcn_architecture:
            return GPUTarget("hip", gpu.gcn_architecture, 64)
        major, minor = gpu.capability
        return GPUTarget("cuda", major * 10 + minor, 32)

    def get_current_device(self) -> int:
        """The first."""
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        """The default one."""
        return 0

    def set_current_device(self, device: int) -> None:
        """There is only one."""

    def get_active_torch_device(self) -> Any:
        """Tensors would live on CUDA."""
        import torch

        return torch.device("cuda")

    def get_device_interface(self) -> Any:
        """torch's CUDA module, which answers for the absent GPU too."""
        import torch

        return torch.cuda

    def get_benchmarker(self) -> None:
        """Nothing can be timed."""


def pretend() -> None:
    """Make Triton answer for the absent GPU; nothing to do where Triton is not installed."""
    try:
        from triton.runtime import driver
    except ImportError:
        return
    driver.set_active(FakeDriver())
