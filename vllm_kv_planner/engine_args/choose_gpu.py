"""The GPU that ``--gpu`` and ``--gpu-memory`` mean."""

from __future__ import annotations

from ..errors import InputError
from ..gpu.catalogue import DEFAULT_GPU, custom_gpu, find_gpu
from ..gpu.gpu import GPU
from ..units import gib


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
    if name is not None and not name.strip():
        raise InputError("--gpu: no name given (an unset variable?); name one, such as --gpu H100")
    gpu = present_gpu() if name == "auto" else find_gpu(DEFAULT_GPU if name is None else name)
    if memory is None:
        return gpu
    from .arguments import parse_memory_size

    size = parse_memory_size(memory)
    if size < 1 << 20:
        raise InputError(
            f"--gpu-memory {memory[:40]!r}: bytes? say the unit, as in 24GiB, 24576MiB"
        )
    return custom_gpu(size, like=gpu)


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


def check_count(gpu: GPU, num_gpus: int, num_nodes: int = 1) -> None:
    """Refuse an engine that needs more GPUs than the machine that was named has.

    Raises:
        InputError: How many the flags need, and how many there are.
    """
    there = gpu.machine_gpus
    if there is not None and num_gpus > there * num_nodes:
        raise InputError(
            f"--gpu: the name says {there} x {gpu.short_name}, and the flags need {num_gpus} GPUs "
            "(tensor x pipeline x data parallel size); lower them, or name the GPU without a number"
        )


def notes_on_device(gpu: GPU, num_gpus: int) -> tuple[str, ...]:
    """What a plan should say about its device: how sure its memory is, and how many there are.

    Raises:
        InputError: As ``check_count``.
    """
    check_count(gpu, num_gpus)
    notes = list(gpu.notes)
    if gpu.machine_gpus is not None:
        notes.append(
            f"the GPU's name says {gpu.machine_gpus} of them: the engine's flags use {num_gpus}"
        )
    if gpu.total_memory_is_estimated:
        notes.append(
            f"{gpu.short_name}: total memory is unconfirmed ({gib(gpu.total_memory_bytes)}, from "
            f"{gpu.total_memory_source.partition(',')[0]}); --gpu-memory SIZE where an engine "
            "printed another"
        )
    if gpu.platform == "xpu" or (gpu.platform == "rocm" and gpu.total_memory_is_estimated):
        notes.append(
            f"{gpu.short_name}: the memory budget is uncalibrated; what the engine takes beside "
            "the model is carried over from other GPUs"
        )
    return tuple(notes)
