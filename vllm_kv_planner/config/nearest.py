"""The bundled models that people mean by a name that nobody knows, or that look like it."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from . import presets

_ENOUGH = 0.6
"""Likeness of the letters alone, from which a name is worth showing."""


_TOKEN = re.compile(r"\d+(?:\.\d+)*|[a-z]+")
_TRAINED = {"instruct", "it", "chat"}
_UNTRAINED = {"base", "pt"}
_MAKER = r" (?:meta|hf|nvidia)"
_KIND = rf" (?:{'|'.join(sorted(_TRAINED | _UNTRAINED))})"
_VERSION = r" v \d+(?:\.\d+)*"
_DATE = r" [0-2]\d{3}"
_ACTIVE = r"(?<= b) a \d+(?:\.\d+)* b"
"""Parameters of one token: ``-A3B``."""
_QUANTISED = re.compile(r"fp8|fp4|awq|gptq|int4|int8|w\da\d", re.IGNORECASE)
_STEPS = (
    ((_MAKER,), False),
    ((_MAKER, _KIND, _VERSION), False),
    ((_MAKER, _DATE), False),
    ((_MAKER, _ACTIVE), False),
    ((_MAKER, _KIND, _VERSION, _DATE, _ACTIVE), False),
    ((_MAKER, _KIND), True),
)
"""What people leave out of an id, or (True) put into it; the first step that finds one counts."""


def meant_by(name: str) -> list[str]:
    """The bundled ids that people mean by ``name``: one, several where it is not clear, or none.

    Upper case, separators and the owner do not matter, nor do the maker's name, dates, the
    parameters of one token and words of training (``_STEPS``); never a size. An owner that is given
    must begin the model's own, as ``meta`` does ``meta-llama``, or have published the same
    weights (``presets.other_owners``). Of several models with the same config, the one with the
    shortest name.
    """
    aliases = presets.known_aliases()
    if name.lower() in aliases:
        return [aliases[name.lower()]]
    owner, _, wanted = name.lower().rpartition("/")
    owners = presets.other_owners(owner)
    is_copy = owners[1:] == [""]
    if is_copy and _QUANTISED.search(wanted):
        return []
    tokens = _tokens(wanted)
    names = {**{model: model for model in presets.known_names()}, **aliases}
    split = [
        (_tokens(known.lower().rpartition("/")[2]), model)
        for known, model in names.items()
        if known.lower().startswith(tuple(owners))
    ]
    for patterns, may_add in _STEPS[:1] if is_copy else _STEPS:
        left_out = re.compile(f"(?:{'|'.join(patterns)})(?= |$)")
        bare = left_out.sub("", tokens)
        found = {
            model
            for known, model in split
            if bare
            and left_out.sub("", known) == bare
            and (may_add or _is_part(tokens.split(), known.split()))
        }
        models = _as_trained(tokens.split(), sorted(found))
        if models:
            return _one_of_each(models)
    return []


def _is_part(words: list[str], whole: list[str]) -> bool:
    """Whether the words stand in ``whole``, in their order."""
    left = iter(whole)
    return all(word in left for word in words)


def _tokens(name: str) -> str:
    return "".join(f" {token}" for token in _TOKEN.findall(name))


def _as_trained(tokens: list[str], models: list[str]) -> list[str]:
    """Of the models those that are trained as the name says, if it says so.

    In a name without a number, ``base`` may be a size: whisper, bart.
    """
    split = {model: set(_tokens(model.lower()).split()) for model in models}
    for own, others in ((_TRAINED, _UNTRAINED), (_UNTRAINED, _TRAINED)):
        if own & set(tokens):
            return [m for m in models if split[m] & own] or [
                m for m in models if not split[m] & others
            ]
    if not any(token[0].isdigit() for token in tokens):
        return [m for m in models if "base" not in split[m]]
    return models


def _one_of_each(names: list[str]) -> list[str]:
    """The shortest of the names whose configs are the same, for each config; ``base`` last."""
    found: list[tuple[object, str]] = []
    for name in sorted(names, key=lambda each: (each.lower().endswith("base"), len(each), each)):
        preset = presets.find_preset(name)
        config = preset and (preset.config, preset.files)
        if all(config != other for other, _ in found):
            found.append((config, name))
    return [name for _, name in found]


def nearest_models(name: str, most: int = 3) -> list[str]:
    """Up to ``most`` bundled ids that look like ``name``, the nearest first."""
    owner, _, wanted = name.lower().rpartition("/")
    scores: dict[str, float] = {}
    names = {**{model: model for model in presets.known_names()}, **presets.hub_aliases()}
    for known, model in names.items():
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
