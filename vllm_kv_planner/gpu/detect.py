"""The GPUs of this machine, as NVML reports them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from ..errors import UnknownNameError
from ..records import replace
from .catalogue import named_gpu
from .gpu import GPU


def present_gpus() -> list[GPU]:
    """NVIDIA GPUs that a CUDA program started here would see; empty where there are none.

    Memory, name and capability are NVML's. What NVML does not tell (CUDA's own total, the size) is
    the catalogue's, for a device of the same name. CUDA_VISIBLE_DEVICES counts by number and UUID.
    """
    with contextlib.suppress(Exception), _nvml() as nvml:  # no driver, no library: no GPUs
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        return [_read(nvml, handles[i]) for i in _visible(nvml, handles)]
    return []


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


def _read(nvml: Any, handle: Any) -> GPU:
    name = _text(nvml.nvmlDeviceGetName(handle))
    total: int | None = None
    with contextlib.suppress(Exception):  # devices that share the host's memory report none
        total = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    capability = tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle))
    try:
        known = named_gpu(name, total)
    except UnknownNameError:
        known = None
    if known is not None and known.compute_capability == capability:
        return replace(known, name=name, nvml_total_bytes=total)
    return GPU(
        name=name,
        short_name=name,
        nvml_total_bytes=total,
        torch_total_bytes=None,
        compute_capability=capability,
        num_sms=None,
        unified_memory=total is None,  # such devices report no total
        sources={"nvml": "NVML on this machine"},
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
