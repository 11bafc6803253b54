"""One GPU as vLLM sees it (two memory totals, capability, size), and what people call it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ..errors import InputError
from ..records import dataclass, field
from ..units import GIB, MIB, gib

Platform = Literal["cuda", "rocm", "xpu"]
NOT_CUDA = (0, 0)
"""A compute capability that none of CUDA's kernels asks for."""

# What CUDA leaves of NVML's total, where nobody has printed the device's own figure: of Hopper and
# data-centre Blackwell a share (H100 0.994, H20 0.994, B200 0.996 were seen), of others all but a
# fixed part and a share (RTX 4060 386 MiB of 8 GB, RTX 2080 Ti 439 of 11, RTX 5060 Ti 463 of 16,
# RTX 4090 480 of 24, A40 652 of 48). An estimate never promises too much.
_LARGE_SHARE = 0.993
_KEPT_BYTES, _KEPT_SHARE = 400 * MIB, 0.006
_SHARES_ALL = 0.75
"""Of a box's memory; a GPU that shows less leaves the rest to the host."""


@dataclass(frozen=True, kw_only=True)
class GPU:
    """A device. All totals in bytes; ``None`` means that nobody stated the figure."""

    name: str
    """As NVML names it (``NVIDIA H100 80GB HBM3``): vLLM's rules look for "a100" in it."""
    short_name: str
    """As people name it, and as ``--gpu`` takes it (``H100-SXM-80GB``)."""
    nvml_total_bytes: int | None
    """What NVML reports as total, of a MIG slice the card's. vLLM's batch defaults go by it."""
    torch_total_bytes: int | None
    """What CUDA and PyTorch report as total. ``gpu_memory_utilization`` multiplies it."""
    compute_capability: tuple[int, int] | None
    """(9, 0) for Hopper; on ROCm the numbers PyTorch shows (gfx942 is (9, 4)); none on Intel's."""
    num_sms: int | None
    """Streaming multiprocessors, on ROCm what PyTorch counts as such."""
    platform: Platform = "cuda"
    kind: str = ""
    """``data centre``, ``workstation``, ``desktop``, ``laptop`` or ``embedded``."""
    nominal_gb: int | None = None
    """The size on the box."""
    estimated_total_bytes: int | None = None
    """For ``torch_total_bytes``, where nobody printed it and NVML's total does not tell."""
    unified_memory: bool = False
    """Whether its memory is the host's; there is one such GPU to a machine."""
    coherent_memory: bool = False
    """Whether the host may keep pages of its own in it: a NUMA node behind NVLink-C2C (GH200)."""
    machine_gpus: int | None = None
    """GPUs of the machine, where its name said so (``8xH100``, ``p5.48xlarge``)."""
    sources: dict[str, str] = field(default_factory=dict, hash=False)
    """Where ``nvml``, ``torch`` and the ``rest`` of the figures come from."""
    notes: tuple[str, ...] = ()
    """Sentences about the device, and about the name it was asked by."""

    @property
    def total_memory_bytes(self) -> int:
        """Bytes that ``gpu_memory_utilization`` multiplies: CUDA's figure, else an estimate.

        The estimate (see ``total_memory_is_estimated``) errs on the small side.
        """
        if self.torch_total_bytes is not None:
            return self.torch_total_bytes
        if self.estimated_total_bytes is not None:
            return self.estimated_total_bytes
        large = self.compute_capability is not None and self.compute_capability[0] in (9, 10)
        nvml = self.nvml_total_bytes or 0
        return int(nvml * _LARGE_SHARE if large else max(0, nvml * (1 - _KEPT_SHARE) - _KEPT_BYTES))

    @property
    def cuda_capability(self) -> tuple[int, int]:
        """The compute capability, for rules about CUDA's kernels; ``NOT_CUDA`` on other GPUs.

        (9, 0) is Hopper's number there and MI250X's here.
        """
        return self.compute_capability or NOT_CUDA if self.platform == "cuda" else NOT_CUDA

    @property
    def host_wants_bytes(self) -> int:
        """What a host that uses the GPU's memory, too, should have: a sixth, 8 GiB or a third.

        Where memory is unified the engine's own processes, page cache and driver live there: hosts
        of 122 GiB hang with 0.86 and more asked for (vLLM issues 46307, 56824), and run with 0.8.
        Where it is coherent it may hold page cache: of a GH200's 142.5 GiB 67.6 were taken once,
        and vLLM did not start (vLLM issue 35313, which treats both alike). A rule of thumb; nothing
        where the GPU is given no more than a part of the box's memory (Strix Halo).
        """
        total, box = self.total_memory_bytes, (self.nominal_gb or 0) * GIB
        parted = self.unified_memory and total < box * _SHARES_ALL
        if parted or not (self.unified_memory or self.coherent_memory):
            return 0
        return max(total // 6, min(8 * GIB, total // 3))

    @property
    def total_memory_is_estimated(self) -> bool:
        """True where CUDA's own total for this device is not known."""
        return self.torch_total_bytes is None

    @property
    def total_memory_source(self) -> str:
        """Where ``total_memory_bytes`` comes from."""
        if self.torch_total_bytes is not None:
            return self.sources.get("torch", "")
        if self.estimated_total_bytes is not None:
            return "data sheet, unconfirmed"
        return "nvidia-smi, unconfirmed"

    @property
    def batch_defaults_memory_bytes(self) -> int:
        """Bytes that vLLM's batch defaults compare with 70 and 160 GiB.

        NVML's total; CUDA's where NVML reports none (GB10) and on ROCm, as
        ``get_device_total_memory`` does in vllm/platforms (0.33). Of AMD's APUs amdsmi tells what
        the BIOS carves out, half a GiB by default: 0 here (80 GiB at 0.28 took small steps).
        """
        if self.kind == "embedded" and self.platform == "rocm":
            return 0
        return self.nvml_total_bytes or self.total_memory_bytes

    @property
    def under_windows(self) -> bool:
        """Whether the total is as CUDA reports it under Windows (WSL too): nearly all of the card.

        23.99 GiB of an RTX 4090, of which Linux reports 23.52; whole GiB are a nominal size.
        """
        missing = -self.total_memory_bytes % GIB
        return self.short_name.startswith("RTX") and _WINDOWS[0] <= missing <= _WINDOWS[1]

    def check_count(self, num_gpus: int) -> None:
        """Refuse an engine that needs more GPUs than the machine that was named has.

        Raises:
            InputError: How many the flags need, and how many there are.
        """
        there = self.machine_gpus
        if there is not None and num_gpus > there:
            raise InputError(
                f"--gpu: the name says {there} x {self.short_name}, and the flags need {num_gpus} "
                "GPUs (tensor x pipeline x data parallel size); lower them, or name the GPU "
                "without a number"
            )

    def notes_for(self, num_gpus: int) -> tuple[str, ...]:
        """What a plan of so many says: how sure their memory is; an InputError as check_count."""
        self.check_count(num_gpus)
        notes = list(self.notes)
        if self.machine_gpus is not None:
            said = f"the GPU's name says {self.machine_gpus} of them"
            notes.append(f"{said}: the engine's flags use {num_gpus}")
        if self.total_memory_is_estimated:
            notes.append(
                f"{self.short_name}: total memory is unconfirmed ({gib(self.total_memory_bytes)}, "
                f"from {self.total_memory_source.partition(',')[0]}); --gpu-memory SIZE where an "
                "engine printed another"
            )
        if self.platform == "xpu" or (self.platform == "rocm" and self.total_memory_is_estimated):
            notes.append(
                f"{self.short_name}: the memory budget is uncalibrated; what the engine takes "
                "beside the model is carried over from other GPUs"
            )
        return tuple(notes)


_WINDOWS = (4 << 20, 16 << 20)
"""Bytes that Windows reports less than whole GiB."""

Row = Mapping[str, Any]
"""One device of ``catalogue.json``."""

_NOISE = (
    *("nvidia", "geforce", "tesla", "amd", "instinct", "radeon", "intel"),
    *("graphics", "tensorcore", "gpu"),
)
_NEAR = 0.7
"""How alike two names must be for one to be a slip of the other (difflib's ratio)."""
MOST_GPUS = 64
"""A leading number up to this is how many GPUs; beyond it, a card (``4090 laptop``)."""


class Asked(NamedTuple):
    """A name taken apart."""

    device: str
    """What is left: the device's own name."""
    gpus: int | None = None
    """How many, where the name says how many."""
    mig: str | None = None
    """A MIG profile such as ``3g.40gb``."""
    shared: bool = False
    """Whether Kubernetes gives the GPU to several by turns."""


def fold(name: str) -> str:
    """``NVIDIA H100-80 GiB`` to ``h10080gb``: lower case, no punctuation, no maker's name."""
    name = name.lower().replace("(r)", "").replace("(tm)", "")[:120]
    folded = "".join(c for c in name if c.isalnum()).replace("gib", "gb")
    for noise in _NOISE:
        folded = folded.replace(noise, "")
    return folded


def fits(row: Row, folded: str) -> bool:
    """Whether a folded name is a family of the device, followed by words of its own."""
    for family in row["families"]:
        if folded.startswith(family):
            rest = folded[len(family) :]
            needs = row.get("needs")
            if (needs is None or any(word in rest for word in needs)) and _made_of(rest, row):
                return True
    return False


def named_in(rows: Sequence[Row], text: str) -> list[str]:
    """Short names of the devices that free text begins with the name of: by most of its words."""
    words = text.split()
    for count in range(min(len(words), 12), 0, -1):
        folded = fold(" ".join(words[:count]))
        found = [str(row["short_name"]) for row in rows if folded and fits(row, folded)]
        if found:
            return found
    return []


def _made_of(rest: str, row: Row) -> bool:
    size = str(row["nominal_gb"])
    words = (*row.get("words", ()), f"{size}gb", f"{size}g", size, "vram")
    return _all_words(rest, words)


def _all_words(rest: str, words: Sequence[str]) -> bool:
    if not rest:
        return True
    return any(rest.startswith(word) and _all_words(rest[len(word) :], words) for word in words)


def label_value(text: str) -> str:
    """What a label says: ``nvidia.com/gpu.product: A`` and ``gke-accelerator=A`` are ``A``."""
    for sign in ("=", ": "):
        key, found, value = text.partition(sign)
        value = value.strip(" \"'")
        if found and ("/" in key or "-" in key) and value and not value.isdigit():
            return value
    return text.strip(" \"'")


def taken_apart(text: str) -> Asked:
    """How many, which slice, shared or not; the device's name is what is left.

    ``8xH100``, ``H100 x8``, ``4 x L40S``, ``2 L4``, ``gpu:a100:4`` (Slurm), ``gpu_8x_h100_sxm5``
    (Lambda), ``NVIDIA-A100-SXM4-80GB-MIG-3g.40gb-SHARED`` (Kubernetes).
    """
    import re

    count: int | None = None
    shared = re.search(r"[-_ ]shared$", text, re.I)
    text = text[: shared.start()] if shared else text
    for pattern in (
        r"gpu_(?P<n>\d+)x_(?P<device>.+)",
        r"(?:gres[/:])?gpu:(?P<device>[^:=]+)[:=](?P<n>\d+)",
        r"(?:gres[/:])?gpu:(?P<device>[^:=]+)",
        r"(?P<n>\d+)\s*[x×*]\s*(?P<device>.+)",
        r"(?P<device>.+?)\s*\(?[x×*]\s*(?P<n>\d+)\)?",
        r"(?P<device>.+?)\s+\(?(?P<n>\d+)\s*[x×]\)?",
        r"(?P<device>.+?)\s*:\s*(?P<n>\d+)",
        r"(?P<n>\d+)\s+(?P<device>[a-z].*)",
    ):
        if (found := re.fullmatch(pattern, text, re.I)) is None:
            continue
        number = found.groupdict().get("n")
        if number is None or 1 <= int(number[:9]) <= MOST_GPUS:
            text, count = found["device"], None if number is None else int(number)
            break
    profile = r"[-_ ]+(?:mig[-_ ]+)?(\d)g[._](\d+)gb(?:[.+-](?:me|gfx)(?:\.all)?)?$"
    mig = re.search(profile, text, re.I)
    if mig is None:
        return Asked(text, count, shared=bool(shared))
    return Asked(text[: mig.start()], count, f"{mig[1]}g.{mig[2]}gb", bool(shared))


def nearest(folded: str, rows: Iterable[Row]) -> list[str]:
    """Up to four short names that ``folded`` is a slip, or the beginning, of; the best first."""
    from difflib import get_close_matches

    by_fold: dict[str, str] = {}
    for row in rows:
        for name in (*row["families"], fold(row["short_name"])):
            by_fold.setdefault(name, row["short_name"])
    begins = sorted((name for name in by_fold if folded.startswith(name)), key=len)[-1:]
    close = get_close_matches(folded, by_fold, n=6, cutoff=_NEAR)
    inside = [name for name in by_fold if len(folded) > 2 and folded in name]
    others = sorted((*close, *inside), key=lambda name: _digits(name) != _digits(folded))
    return list(dict.fromkeys(by_fold[name] for name in (*begins, *others)))[:4]


def _digits(name: str) -> str:
    return "".join(c for c in name if c.isdigit())
