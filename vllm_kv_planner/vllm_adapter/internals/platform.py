"""The platform class: vLLM's CUDA platform, asked about a GPU from the catalogue.

Everything that decides (attention backends, dtypes, block sizes, CUDA graphs) is vLLM's own; only
the questions to the device are answered here. Source: vLLM 0.33 ``platforms/cuda.py``.
"""

from __future__ import annotations

from vllm.platforms.cuda import CudaPlatformBase

from ..absent_gpu import absent_gpu
from .device_answers import DeviceAnswers


class AbsentGPUPlatform(DeviceAnswers, CudaPlatformBase):
    """vLLM's rules for NVIDIA GPUs."""

    @classmethod
    def is_arch_support_pdl(cls) -> bool:
        """Programmatic dependent launch, from Hopper on."""
        return absent_gpu().capability >= (9, 0)
