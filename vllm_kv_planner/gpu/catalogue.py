"""The catalogue of GPUs: read on demand from ``catalogue.json`` beside this file."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any

from ..errors import InputError, UnknownNameError
from ..records import dataclass, replace
from .gpu import GIB, GPU, MIB
from .naming import Naming, fold, nearest

DEFAULT_GPU = "H100"
"""Where nobody names a GPU."""


GIVEN = "given by the user"
"""Source of a total that ``--gpu-memory`` says."""


@dataclass(frozen=True)
class _Entry:
    gpu: GPU
    naming: Naming


def all_gpus() -> tuple[GPU, ...]:
    """Every device of the catalogue, in its order."""
    return tuple(entry.gpu for entry in _entries())


@lru_cache(maxsize=256)
def find_gpu(name: str) -> GPU:
    """The device that people call ``name``; case, spaces and dashes do not matter.

    ``h100``, ``H100-80GB``, ``NVIDIA H100 80GB HBM3``, ``rtx4090`` and ``4090`` all do. A name
    that fits several devices means the usual one: ``a100`` the 80 GB SXM card, ``h100`` the SXM
    card, ``v100`` the 16 GB one, ``gh200`` the 96 GB one, ``rtx pro 6000`` the server edition.

    Raises UnknownNameError, with the nearest names, when no device fits.
    """
    folded = fold(name)
    for entry in _entries():
        if folded and folded in (fold(entry.gpu.name), fold(entry.gpu.short_name)):
            return entry.gpu
    for entry in _entries():
        if entry.naming.fits(folded):
            return entry.gpu
    names = [entry.gpu.short_name for entry in _entries()]
    families = {family: e.gpu.short_name for e in reversed(_entries()) for family in e.naming[0]}
    near = nearest(folded, names, families)
    raise UnknownNameError(
        f"unknown GPU {name[:60]!r}; did you mean {', '.join(near)}? "
        "Anything else: --gpu-memory 80GiB, with --gpu for a device like it"
    )


def custom_gpu(memory_bytes: int, *, like: GPU | None = None, name: str | None = None) -> GPU:
    """A device with ``memory_bytes`` of memory, as CUDA reports it, for ``--gpu-memory``.

    ``like`` lends everything but the memory (and its name, which vLLM's defaults go by);
    without it capability and size are unknown. Raises InputError unless memory is positive.
    """
    if memory_bytes <= 0:
        raise InputError(f"--gpu-memory: {memory_bytes} bytes; it must be positive")
    sources = {"nvml": GIVEN, "torch": GIVEN}
    if like is not None:
        return replace(
            like,
            name=name or like.name,
            short_name=sized_name(like.short_name, memory_bytes),
            nvml_total_bytes=memory_bytes,
            torch_total_bytes=memory_bytes,
            sources={**like.sources, **sources},
        )
    return GPU(
        name=name or "custom GPU",
        short_name=name or "custom",
        nvml_total_bytes=memory_bytes,
        torch_total_bytes=memory_bytes,
        compute_capability=None,
        num_sms=None,
        memory_bandwidth_gb_s=None,
        sources=sources,
    )


SAME_DEVICE = 0.03
"""Share of its total by which a device's own figure may differ from the catalogue's."""


def sized_name(short_name: str, total_bytes: int) -> str:
    """The short name; with the total where that is not the device's own, as of a MIG slice."""
    base = short_name.partition("@")[0]
    known = next((e.gpu.total_memory_bytes for e in _entries() if e.gpu.short_name == base), 0)
    if abs(total_bytes - known) <= known * SAME_DEVICE:
        return base
    return f"{base}@{total_bytes / GIB:.1f}GiB"


@lru_cache(maxsize=1)
def _entries() -> tuple[_Entry, ...]:
    path = os.path.join(os.path.dirname(__file__), "catalogue.json")
    with open(path, encoding="utf-8") as file:
        rows = json.load(file)["gpus"]
    return tuple(_read(row) for row in rows)


def _read(row: dict[str, Any]) -> _Entry:
    nvml_mib = row["nvml_total_mib"]
    torch_bytes: int | None = None
    if "torch_total_mib" in row:
        torch_bytes = row["torch_total_mib"] * MIB
    elif "torch_total_gib" in row:
        torch_bytes = round(row["torch_total_gib"] * GIB)
    major, minor = row["compute_capability"]
    gpu = GPU(
        name=row["name"],
        short_name=row["short_name"],
        nvml_total_bytes=None if nvml_mib is None else nvml_mib * MIB,
        torch_total_bytes=torch_bytes,
        compute_capability=(major, minor),
        num_sms=row["num_sms"],
        memory_bandwidth_gb_s=row["memory_bandwidth_gb_s"],
        platform=row["platform"],
        nominal_gb=row["nominal_gb"],
        sources=row["sources"],
        note=row.get("note"),
    )
    naming = Naming(tuple(row["families"]), (*row["forms"], *row["memory_names"]))
    return _Entry(gpu, naming)
