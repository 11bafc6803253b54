"""The platform class for AMD GPUs: vLLM's ROCm platform, asked about a GPU from the catalogue.

Source: vLLM 0.33 ``platforms/rocm.py``. vLLM's wheel for CUDA carries the same Python code; what it
would find out on an AMD machine (its library amdsmi, the architecture, the AITER kernels that
vLLM's images for ROCm bring along) is answered here.
"""

from __future__ import annotations

from vllm.platforms.rocm import RocmPlatform

from .device_answers import DeviceAnswers


class AbsentROCmPlatform(DeviceAnswers, RocmPlatform):
    """vLLM's rules for AMD GPUs."""
