"""What people call a GPU: names folded to letters and digits, then taken apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

_NOISE = ("nvidia", "geforce", "tesla", "amd", "instinct", "radeon", "gpu")


def fold(name: str) -> str:
    """``NVIDIA H100-80 GiB`` to ``h10080gb``: lower case, no punctuation, no maker's name."""
    folded = "".join(c for c in name.lower() if c.isalnum())[:80].replace("gib", "gb")
    for noise in _NOISE:
        folded = folded.replace(noise, "")
    return folded


class Naming(NamedTuple):
    """The words a device answers to: one family first, then any of the others."""

    families: tuple[str, ...]
    words: tuple[str, ...]

    def fits(self, folded: str) -> bool:
        """Whether a folded name is a family of this device followed by words of its own."""
        return any(
            folded.startswith(family) and _made_of(folded[len(family) :], self.words)
            for family in self.families
        )


def _made_of(rest: str, words: Sequence[str]) -> bool:
    if not rest:
        return True
    return any(rest.startswith(word) and _made_of(rest[len(word) :], words) for word in words)


def nearest(folded: str, names: Sequence[str], families: Mapping[str, str]) -> list[str]:
    """Up to four known names that look most like ``folded``, the best first."""
    from difflib import get_close_matches

    by_fold = {**families, **{fold(name): name for name in names}}
    close = get_close_matches(folded, by_fold, n=6, cutoff=0.4)
    found = list(dict.fromkeys(by_fold[key] for key in close))[:4]
    return found or ["H100-SXM-80GB", "A100-SXM-80GB", "L4-24GB", "RTX-4090-24GB"]
