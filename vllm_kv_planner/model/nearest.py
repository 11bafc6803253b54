"""The bundled models that people mean by a name that nobody knows, or that look like it."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from . import presets

_ENOUGH = 0.6
"""Likeness of the letters alone, from which a name is worth showing."""


_TOKEN = re.compile(r"\d+(?:\.\d+)*|[a-z]+")
_LEFT_OUT = (
    {"meta", "hf"},
    {"meta", "hf", "instruct", "it", "chat", "base", "pt", "v"},
)
"""Words of an id that people leave out, the most usual first; a version goes with its ``v``."""


def meant_by(name: str) -> list[str]:
    """The bundled ids that people mean by ``name``: one, several where it is not clear, or none.

    Upper case, separators and the owner do not matter, nor do the words of ``_LEFT_OUT``. An owner
    that is given must begin the model's own, as ``meta`` does ``meta-llama``. Of several models
    with the same config, the one with the shortest name.
    """
    owner, _, wanted = name.lower().rpartition("/")
    tokens = _TOKEN.findall(wanted)
    names = {model: model for model in presets.known_names()}
    names.update((known, model) for known, model in presets.known_aliases().items())
    split = [
        (_TOKEN.findall(known.lower().rpartition("/")[2]), model)
        for known, model in names.items()
        if known.lower().rpartition("/")[0].startswith(owner)
    ]
    for words in _LEFT_OUT:
        found = sorted({model for known, model in split if _is_short(tokens, known, words)})
        if found:
            return _one_of_each(found)
    return []


def _is_short(tokens: list[str], known: list[str], words: set[str]) -> bool:
    """Whether ``tokens`` are those of ``known`` but for some of ``words``."""
    left = iter(tokens)
    wanted = next(left, None)
    after_v = False
    for token in known:
        if token == wanted:
            wanted, after_v = next(left, None), False
        elif token in words or (after_v and token[0].isdigit()):
            after_v = token == "v"
        else:
            return False
    return wanted is None and bool(tokens)


def _one_of_each(names: list[str]) -> list[str]:
    """The shortest of the names whose configs are the same, for each config."""
    found: list[tuple[object, str]] = []
    for name in sorted(names, key=lambda each: (len(each), each)):
        preset = presets.find_preset(name)
        config = preset and (preset.config, preset.files)
        if all(config != other for other, _ in found):
            found.append((config, name))
    return [name for _, name in found]


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
