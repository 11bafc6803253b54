"""The GPU that ``--gpu`` and ``--gpu-memory`` mean."""

from __future__ import annotations

from ..errors import InputError
from ..gpu.catalogue import custom_gpu, find_gpu
from ..gpu.gpu import GPU


def choose_gpu(name: str | None, memory: str | None = None) -> GPU | None:
    """The device of these flags; None where neither is given.

    Args:
        name: A name of the catalogue, or ``auto``: the first GPU of this machine.
        memory: Another total than the device's own, such as ``80GiB``; without a name the device
            is taken to be like an H100.

    Raises:
        InputError: No GPU on this machine, or a size that makes no sense.
        UnknownNameError: Nobody knows the name; says the nearest.
    """
    if name is None and memory is None:
        return None
    gpu = present_gpu() if name == "auto" else find_gpu(name or "H100")
    if memory is None:
        return gpu
    from .quantities import parse_memory_size

    return custom_gpu(parse_memory_size(memory), like=gpu)


def present_gpu() -> GPU:
    """The first GPU that a CUDA program started here would use."""
    from ..gpu.detect import present_gpus

    present = present_gpus()
    if not present:
        raise InputError(
            "--gpu auto: NVML finds no NVIDIA GPU on this machine (its Python package is "
            "nvidia-ml-py); name one, such as --gpu H100"
        )
    return present[0]
