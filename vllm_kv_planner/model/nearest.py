"""The bundled models whose names look like one that nobody knows."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from . import presets

_ENOUGH = 0.6
"""Likeness of the letters alone, from which a name is worth showing."""


def nearest_models(name: str, most: int = 3) -> list[str]:
    """Up to ``most`` bundled ids that look like ``name``, the nearest first."""
    owner, _, wanted = name.lower().rpartition("/")
    scores: dict[str, float] = {}
    names = [(known, known) for known in presets.known_names()]
    for known, model in [*names, *presets.known_aliases().items()]:
        other, _, candidate = known.lower().rpartition("/")
        score = _likeness(_folded(wanted), _folded(candidate))
        if score:
            same_owner = 0.2 if owner and owner == other else 0.0
            scores[model] = max(scores.get(model, 0.0), score + same_owner)
    return sorted(scores, key=lambda model: (-scores[model], len(model), model))[:most]


def _likeness(wanted: str, candidate: str) -> float:
    """How alike two folded names are; sizes and versions count beside the letters."""
    matcher = SequenceMatcher(None, wanted, candidate, autojunk=False)
    begins = bool(wanted) and candidate.startswith(wanted)
    if not begins and (matcher.quick_ratio() < _ENOUGH or matcher.ratio() < _ENOUGH):
        return 0.0
    digits = SequenceMatcher(None, _digits(wanted), _digits(candidate), autojunk=False).ratio()
    return matcher.ratio() + digits + (0.5 if begins else 0.0)


def _folded(name: str) -> str:
    return re.sub(r"[-_.]", "", name)


def _digits(name: str) -> str:
    return re.sub(r"\D", "", name)
