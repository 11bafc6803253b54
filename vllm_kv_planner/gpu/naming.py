"""What people call a GPU: names folded to letters and digits, then taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

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
