"""The GPU that ``--gpu`` and ``--gpu-memory`` mean; those of this machine, as NVML reports them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from ..errors import InputError
from ..records import replace
from ..units import parse_memory_size
from .catalogue import DEFAULT_GPU, SAME_DEVICE, custom_gpu, find_gpu, named_gpu
from .gpu import GPU


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
    size = parse_memory_size(memory)
    if size < 1 << 20:
        raise InputError(
            f"--gpu-memory {memory[:40]!r}: bytes? say the unit, as in 24GiB, 24576MiB"
        )
    return custom_gpu(size, like=gpu)


def present_gpu() -> GPU:
    """The first GPU that a CUDA program started here would use."""
    present = present_gpus()
    if not present:
        raise InputError(
            "--gpu auto: NVML finds no NVIDIA GPU on this machine (its Python package is "
            "nvidia-ml-py); name one, such as --gpu H100"
        )
    return present[0]


def present_gpus() -> list[GPU]:
    """NVIDIA GPUs that a CUDA program started here would see; empty where there are none.

    Memory, name and capability are NVML's. What NVML does not tell (CUDA's own total, the size) is
    the catalogue's, for a device of the same name. CUDA_VISIBLE_DEVICES counts by number and UUID.
    A GPU that is divided (MIG) shows its slices, of which CUDA gives a program the first alone.
    """
    with contextlib.suppress(Exception), _nvml() as nvml:  # no driver, no library: no GPUs
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        slices = [each for handle in handles for each in _slices(nvml, handle)]
        if slices:
            wanted = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            named = [each for each in slices if wanted.startswith("MIG-") and each[0] == wanted]
            _, part, whole = (named or slices)[0]
            return [_read(nvml, part, whole)]
        return [_read(nvml, handles[i]) for i in _visible(nvml, handles)]
    return []


def _slices(nvml: Any, handle: Any) -> list[tuple[str, Any, Any]]:
    """The MIG slices of a GPU: UUID and handle of each, and the GPU's own; none where undivided."""
    found: list[tuple[str, Any, Any]] = []
    with contextlib.suppress(Exception):  # a GPU or driver without MIG answers with an error
        if not nvml.nvmlDeviceGetMigMode(handle)[0]:
            return []
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with contextlib.suppress(Exception):  # numbers without a slice
                part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
                found.append((_text(nvml.nvmlDeviceGetUUID(part)), part, handle))
    return found


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    try:
        import pynvml as nvml
    except ImportError:
        from vllm.third_party import pynvml as nvml  # vLLM brings its own copy
    nvml.nvmlInit()
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _visible(nvml: Any, handles: list[Any]) -> list[int]:
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return list(range(len(handles)))
    uuids = [_text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    found: list[int] = []
    for word in (part.strip() for part in wanted.split(",")):
        matches = [i for i, uuid in enumerate(uuids) if word and uuid.startswith(word)]
        index = int(word) if word.isdigit() else next(iter(matches), -1)
        if not 0 <= index < len(handles):
            break  # CUDA stops at the first that does not exist
        found.append(index)
    return found


def _read(nvml: Any, handle: Any, whole: Any = None) -> GPU:
    """The device of a handle; ``whole`` is the GPU's own where ``handle`` is a slice of it."""
    name = _text(nvml.nvmlDeviceGetName(handle))
    total: int | None = None
    with contextlib.suppress(Exception):  # devices that share the host's memory report none
        total = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    physical = handle if whole is None else whole
    capability = tuple(nvml.nvmlDeviceGetCudaComputeCapability(physical))
    try:
        known = named_gpu(name, total)
    except InputError:
        known = None
    if known is not None and known.compute_capability == capability:
        if whole is not None:  # its own total stays the card's, for vLLM asks NVML for that
            return known
        gpu = replace(known, name=name, nvml_total_bytes=total)
        there, said = total or 0, known.nvml_total_bytes or 0
        other = said and abs(there - said) > said * SAME_DEVICE
        return replace(gpu, torch_total_bytes=None) if other else gpu
    return GPU(
        name=name,
        short_name=name,
        nvml_total_bytes=total,
        torch_total_bytes=None,
        compute_capability=capability,
        num_sms=None,
        kind="" if total else "embedded",
        unified_memory=total is None,  # such devices report no total
        sources={"nvml": "NVML on this machine"},
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
