"""The catalogue of GPUs: read on demand from ``catalogue.json`` beside this file."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from ..errors import InputError, UnknownNameError
from ..files.json_file import read_json
from ..records import replace
from ..units import GIB, MIB
from .gpu import GPU, Asked, Row, fits, fold, label_value, named_in, nearest, taken_apart

DEFAULT_GPU = "H100"
"""Where nobody names a GPU."""

GIVEN = "given by the user"
"""Source of a total that ``--gpu-memory`` says."""

KNOWN = "`vllm-kv-planner gpus` lists what is known"
# Of the size on the box, where neither CUDA's nor NVML's total is known: the least seen of each
# kind. ECC may take a sixteenth of memory that is not HBM (L4 0.918),
# a host its own part of memory that is shared (Orin Nano 0.930, with JetPack 7 0.921), Intel's
# driver some (Arc Pro B60 0.946); AMD's show it nearly all (MI355X 1.000, RX 9070 XT 0.995).
_BOX_SHARE = {
    "cuda": {"data centre": 0.91, "workstation": 0.91, "embedded": 0.92},
    "rocm": {"data centre": 0.999, "embedded": 0.92},
    "xpu": {},
}
_WITH_HBM = ([8, 0], [9, 0], [10, 0], [10, 3])
"""Compute capabilities of cards with HBM (GH200 0.984, A100 40 GB 0.987)."""
_OTHER_SHARE = {"cuda": 0.94, "rocm": 0.995, "xpu": 0.94}
# Of its part of the card's total, what a MIG slice has: an eighth least (H200's 1g.18gb 0.916, of
# 80 GB cards 0.96 by nvidia-smi's list; A100's 1g.10gb of 40 GB 0.975, its 3g.40gb 0.997).
_EIGHTH_SHARE = {False: 0.95, True: 0.91}
"""By whether the card has more than 100 GB."""
_SLICE_SHARE = 0.97

_NOT_OFFERED = ("laptop", "embedded")


class _Found(NamedTuple):
    rows: tuple[Row, ...]
    """Every device that the name fits, the usual one first."""
    gpus: int | None = None
    exact: bool = True
    """Whether it is a device's own short name, or one device's instance type."""


def all_gpus() -> tuple[GPU, ...]:
    """Every device of the catalogue, in its order; slices of one are made by name."""
    return tuple(_device(row["short_name"]) for row in _catalogue()["gpus"])


def offered_gpus() -> tuple[GPU, ...]:
    """The devices to search through where nobody names one: not what is built into a host."""
    return tuple(
        gpu for gpu in all_gpus() if gpu.kind not in _NOT_OFFERED and gpu.platform != "xpu"
    )


@lru_cache(maxsize=256)
def find_gpu(name: str) -> GPU:
    """The device that people call ``name``; case, spaces and dashes do not matter.

    ``h100``, ``H100-80GB``, ``NVIDIA H100 80GB HBM3``, ``rtx4090`` and ``4090`` all do, as do
    Kubernetes' labels, instance types of clouds, numbers of GPUs (``8xH100``: ``machine_gpus``) and
    MIG slices. A name that fits several devices means the usual one: ``a100`` the 80 GB SXM card,
    ``h100`` the SXM card, ``v100`` the 16 GB one, ``gh200`` the 96 GB one, ``rtx pro 6000`` the
    server edition; ``GPU.notes`` says so where another has less memory.

    Raises UnknownNameError, with names that are near, when no device fits.
    """
    text = label_value(name)
    if not text:
        raise UnknownNameError(f"--gpu: the name is empty (an unset shell variable?); {KNOWN}")
    asked = Asked(text)
    found = _known(text)
    if found is None:
        asked = taken_apart(text)
        found = _known(asked.device)
    if found is None and asked.gpus and asked.device[-1:] in "sS":  # 8 H100s
        found = _known(asked.device[:-1])
    if found is None:
        raise UnknownNameError(_unknown(name, asked))
    row = found.rows[0]
    if asked.mig is not None:  # the profile tells which card: only 40 GB ones have a 1g.5gb
        row = next((each for each in found.rows if asked.mig in each.get("mig", ())), row)
    gpu = _device(row["short_name"])
    smaller = [r["short_name"] for r in found.rows if r["nominal_gb"] < row["nominal_gb"]]
    if asked.mig is not None:
        gpu = _slice(gpu, row, asked.mig)
    notes = list(gpu.notes)
    if smaller and not found.exact:
        notes.append(
            f"--gpu {name[:60]}: taken as {gpu.short_name}; {', '.join(smaller)} would have "
            "less memory"
        )
    if asked.shared:
        notes.append(
            "the GPU is shared by turns: what others hold of its memory is "
            "--other-processes SIZE or --free-memory SIZE"
        )
    count = asked.gpus or found.gpus
    if count == gpu.machine_gpus and tuple(notes) == gpu.notes:
        return gpu
    return replace(gpu, machine_gpus=count, notes=tuple(notes))


def named_gpu(name: str, nvml_total_bytes: int | None) -> GPU:
    """The device that NVML calls ``name``; of several of that name the one of that total.

    Raises UnknownNameError as ``find_gpu``.
    """
    total = nvml_total_bytes
    twins = [row for row in _catalogue()["gpus"] if row["name"] == name and "nvml_mib" in row]
    if total is None or len(twins) < 2:
        return find_gpu(name)
    return _device(min(twins, key=lambda row: abs(row["nvml_mib"] * MIB - total))["short_name"])


def may_be(gpu: GPU, text: str) -> bool:
    """Whether text that begins with a device's name may mean this one, or names none known."""
    named = named_in(_catalogue()["gpus"], text)
    base = gpu.short_name.partition("@")[0].partition("-MIG-")[0]
    return not named or base in named or _row(base) is None


def other_names(gpu: GPU) -> tuple[str, ...]:
    """What else the device is called: families of names, instance types, Kubernetes' labels."""
    row = _row(gpu.short_name) or {}
    return (gpu.name, *row.get("families", ()), *_catalogue()["machines"].get(gpu.short_name, ()))


def mig_profiles(gpu: GPU) -> tuple[str, ...]:
    """The MIG profiles of a card, as ``--gpu "H100 1g.10gb"`` takes them."""
    return tuple((_row(gpu.short_name) or {}).get("mig", ()))


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
        sources=sources,
    )


SAME_DEVICE = 0.03
"""Share of its total by which a device's own figure may differ from the catalogue's."""


def sized_name(short_name: str, total_bytes: int) -> str:
    """The short name; with the total where that is not the device's own, as of a MIG slice."""
    base = short_name.partition("@")[0]
    known = 0 if _row(base) is None else _device(base).total_memory_bytes
    if abs(total_bytes - known) <= known * SAME_DEVICE:
        return base
    return f"{base}@{total_bytes / GIB:.1f}GiB"


@lru_cache(maxsize=1)
def _catalogue() -> dict[str, Any]:
    found: dict[str, Any] = read_json(__file__, "catalogue.json")
    return found


def _row(short_name: str) -> Row | None:
    return next((row for row in _catalogue()["gpus"] if row["short_name"] == short_name), None)


def _known(text: str) -> _Found | None:
    """The row of a name without number or slice: an instance type's, else the first that fits."""
    kind = text.lower().replace("_", "-").removeprefix("ml.")
    for short_name, types in _catalogue()["machines"].items():
        for word in (kind, f"standard-{kind}"):
            if word in types and (row := _row(short_name)) is not None:
                return _Found((row,), types[word])
    folded = fold(text)
    fitting = [row for row in _catalogue()["gpus"] if fits(row, folded)]
    if not fitting:
        # ``Quadro RTX A6000``, ``Jetson Thor``: a family that is left out of the card's own name
        without = folded.removeprefix("quadro")
        return None if without == folded else _known(without)
    return _Found(tuple(fitting), exact=folded == fold(fitting[0]["short_name"]))


def _unknown(name: str, asked: Asked) -> str:
    """Why the name is refused: what it is instead, or which names are near."""
    import re

    said, device = f"unknown GPU {name[:60]!r}", asked.device
    text = device.lower()
    kind = text.replace("_", "-").removeprefix("ml.")
    for word, part in _catalogue()["fractions"].items():
        if kind in (word, word.removeprefix("standard-")):
            return f"--gpu {name[:60]}: has {part}"
    for pattern, what in _catalogue()["others"]:
        if re.match(pattern, text):
            ends = "--planner vllm can ask vLLM's CPU build; " if what == "a CPU" else ""
            return f"{said}: {what}, which this planner does not plan for; {ends}{KNOWN}"
    if re.fullmatch(r"(.*/)?(mig)?([-_ ]?\dg[._]\d+gb.*)?", text) and "g" in text:
        return f"{said}: a MIG profile, and not of which GPU; --gpu 'H100 1g.10gb' names both"
    near = nearest(fold(device), _catalogue()["gpus"])
    meant = f"; did you mean {', '.join(near)}?" if near else f"; {KNOWN}."
    return f"{said}{meant} Anything else: --gpu-memory SIZE, with --gpu for a device like it"


@lru_cache(maxsize=512)
def _device(short_name: str) -> GPU:
    """The GPU of a row."""
    row = _row(short_name)
    assert row is not None, short_name
    nvml = row.get("nvml_mib")
    platform, kind = row.get("platform", "cuda"), row["kind"]
    share = _BOX_SHARE[platform].get(kind, _OTHER_SHARE[platform])
    if platform == "cuda" and kind == "data centre" and row["capability"] in _WITH_HBM:
        share = 0.97
    sources = {"rest": "data sheet"}
    if nvml is not None:
        sources["nvml"] = "nvidia-smi"
    if "torch_source" in row:
        sources["torch"] = row["torch_source"]
    capability = row["capability"]
    return GPU(
        name=row["name"],
        short_name=short_name,
        nvml_total_bytes=None if nvml is None else nvml * MIB,
        torch_total_bytes=_printed(row),
        estimated_total_bytes=None if nvml else int(row["nominal_gb"] * GIB * share),
        compute_capability=None if capability is None else (capability[0], capability[1]),
        num_sms=row.get("sms"),
        platform=platform,
        kind=kind,
        nominal_gb=row["nominal_gb"],
        unified_memory=bool(row.get("unified")),
        coherent_memory=bool(row.get("coherent")),
        sources=sources,
        notes=(row["note"],) if "note" in row else (),
    )


def _printed(row: Row) -> int | None:
    """CUDA's total as an engine or PyTorch printed it: bytes, MiB, or GiB to two decimals."""
    for key, unit in (("torch_bytes", 1), ("torch_mib", MIB), ("torch_gib", GIB)):
        if key in row:
            size: int = round(row[key] * unit)
            return size
    return None


def _slice(gpu: GPU, row: Row, profile: str) -> GPU:
    """The MIG slice of a GPU.

    NVML's name and total stay the card's: vLLM asks for the physical device's (0.33
    ``platforms/cuda.py`` ``get_device_total_memory``).

    Raises InputError where the card has no such profile.
    """
    profiles = row.get("mig")
    if not profiles or profile not in profiles:
        which = f"its profiles are {', '.join(profiles)}" if profiles else "none is known of it"
        raise InputError(f"--gpu: {gpu.short_name} has no MIG profile {profile}; {which}")
    eighths = round(8 * int(profile.partition(".")[2].removesuffix("gb")) / row["nominal_gb"])
    printed = row.get("mig_printed_gib", {}).get(profile)
    share = _EIGHTH_SHARE[row["nominal_gb"] > 100] if eighths == 1 else _SLICE_SHARE
    sms = profiles[profile]
    part = "" if sms is None or not gpu.num_sms else f" and {sms} of its {gpu.num_sms} SMs"
    sources = {key: text for key, text in gpu.sources.items() if key != "torch"}
    return replace(
        gpu,
        name=f"{gpu.name} MIG {profile}",
        short_name=f"{gpu.short_name}-MIG-{profile}",
        torch_total_bytes=None if printed is None else round(printed * GIB),
        estimated_total_bytes=int(gpu.total_memory_bytes * eighths / 8 * share),
        num_sms=sms,
        nominal_gb=None,
        sources=sources if printed is None else {**sources, "torch": "printed on such a slice"},
        notes=(*gpu.notes, f"a MIG slice: {eighths} of 8 parts of the card's memory{part}"),
    )
