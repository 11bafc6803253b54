"""Models that are known without any network: their size-relevant facts, bundled.

``presets.jsonl`` holds one model a line, sorted by id. Only the wanted line is parsed: looking
a model up costs under a millisecond. Each line is a JSON object:

``id``
    The model's id on the Hub.
``certainty``
    ``confirmed``: two sources have the same copy of the published file. ``agreed``: two sources
    agree on the sizes. ``one``: a copy of one source. ``derived``: entered by hand, corrected, or
    rebuilt from another format.
``source``
    Where its facts come from, in words.
``config``
    The size-relevant part of its config.json, used exactly as that file would be.
``like``, ``drop``
    Instead of repeating a sibling: its id, and keys of its config to leave out. ``config`` is
    then merged into what remains, object by object.
``files``
    Other JSON files of the repository that matter (``hf_quant_config.json``).

Long lists of module names are written as patterns: ``{"$names": ["layers.{0-31}.mlp.gate"]}``
is the list of those names, ``{"$map": [["layers.{0-31}.mlp", {…}]]}`` an object with the same
value for each. The first line holds, all in lower case, ``aliases``: names that the Hub itself
leads to a known model; ``spellings``: names that people use for one, by where they come from;
``owners``: who else's repositories of a model's very name hold it (``""``: anybody's).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from ..errors import UnknownNameError
from ..files.json_file import find_line, lines_text, updated
from ..records import dataclass, field

PRESETS = "presets.jsonl"
CERTAINTIES = ("confirmed", "agreed", "one", "derived")


@dataclass(frozen=True)
class Preset:
    """One bundled model: its id, its config as config.json would hold it, and where from."""

    id: str
    config: Mapping[str, Any]
    source: str
    certainty: str
    files: Mapping[str, Any] = field(default_factory=dict)


@lru_cache(maxsize=64)
def find_preset(name: str) -> Preset | None:
    """The bundled model called ``name`` (an id or an alias, in any case), or None."""
    line = find_line(__file__, PRESETS, name.lower())
    line = line or find_line(__file__, PRESETS, canonical_name(name).lower())
    if line is None:
        return None
    config = line.get("config", {})
    if "like" in line:
        sibling = find_preset(line["like"])
        if sibling is None:
            raise KeyError(f"{line['id']} is like {line['like']}, which is not bundled")
        kept = {k: v for k, v in sibling.config.items() if k not in line.get("drop", ())}
        config = updated(kept, config)
    files = _expanded(line.get("files", {}))
    return Preset(line["id"], _expanded(config), line["source"], line["certainty"], files)


def canonical_name(name: str) -> str:
    """The Hub id that ``name`` stands for: an alias, or a repository without its owner.

    ``name`` itself when it is neither. Raises UnknownNameError where several owners have it.
    """
    lowered = name.lower()
    alias = hub_aliases().get(lowered)
    if alias is not None:
        return alias
    owned = [] if "/" in name else _with_owner(lowered)
    if len(owned) > 1:
        raise UnknownNameError(f"{name} is not one model: {' or '.join(owned)}?")
    return owned[0] if owned else name


def is_id_of(name: str, model: str) -> bool:
    """Whether ``name`` is the model's own id, or one that the Hub itself leads to it from."""
    lowered, own = name.lower(), model.lower()
    was_named_so = "/" in lowered or own.endswith("/" + lowered)
    return lowered == own or (was_named_so and hub_aliases().get(lowered, "").lower() == own)


@lru_cache(maxsize=64)
def _with_owner(lowered: str) -> list[str]:
    """The models called so after their owner's name; by an alias where no id is."""
    pattern = rb'\n{"id":"([^"/]*/' + re.escape(lowered.encode(errors="replace")) + rb')",'
    text = lines_text(__file__, PRESETS)
    found = [
        text[match.start(1) : match.end(1)].decode()
        for match in re.finditer(pattern, lines_text(__file__, PRESETS, lowered=True))
    ]
    aliased = (model for name, model in hub_aliases().items() if name.rpartition("/")[2] == lowered)
    return found or sorted(set(aliased))


def known_names() -> list[str]:
    """The ids of all bundled models, sorted."""
    lines = lines_text(__file__, PRESETS).split(b"\n")[1:]
    return [json.loads(line)["id"] for line in lines if line]


def hub_aliases() -> dict[str, str]:
    """Names, in lower case, that the Hub itself leads to a bundled model, and its id."""
    return _other_names("aliases")


def known_aliases() -> Mapping[str, str]:
    """Other names of bundled models, in lower case, to their ids."""
    return _other_names("aliases", "spellings")


def other_owners(owner: str) -> list[str]:
    """How owners begin whose models a repository of ``owner`` may hold, ``owner`` first."""
    other = _other_names("owners").get(owner)
    return [owner] if other is None else [owner, other]


@lru_cache(maxsize=4)
def _other_names(*kinds: str) -> dict[str, str]:
    text = lines_text(__file__, PRESETS)
    head = json.loads(text[: text.find(b"\n")])
    found: dict[str, str] = {}
    for kind in kinds:
        flat = kind == "aliases"
        for group in [head[kind]] if flat else head[kind].values():
            found.update(group)
    return found


def _expanded(value: Any) -> Any:
    """``value`` with the module-name patterns in it written out."""
    if isinstance(value, list):
        # Only objects can hold patterns; long lists of numbers or words are left alone.
        has_objects = value and isinstance(value[0], dict)
        return [_expanded(item) for item in value] if has_objects else value
    if not isinstance(value, dict):
        return value
    if "$names" in value:
        return [name for pattern in value["$names"] for name in expand_name(pattern)]
    if "$map" in value:
        return {name: item for pattern, item in value["$map"] for name in expand_name(pattern)}
    return {key: _expanded(item) for key, item in value.items()}


def expand_name(pattern: str) -> Iterator[str]:
    """The names a pattern stands for: each ``{0-2,7,gate}`` in it is one of those words."""
    before, brace, rest = pattern.partition("{")
    if not brace:
        yield pattern
        return
    choices, _, after = rest.partition("}")
    tails = list(expand_name(after))
    for choice in choices.split(","):
        first, _, last = choice.partition("-")
        is_range = first.isdigit() and last.isdigit()
        for word in range(int(first), int(last) + 1) if is_range else (choice,):
            yield from (f"{before}{word}{tail}" for tail in tails)


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
    weights (``other_owners``). Of several models with the same config, the one with the
    shortest name.
    """
    aliases = known_aliases()
    if name.lower() in aliases:
        return [aliases[name.lower()]]
    owner, _, wanted = name.lower().rpartition("/")
    owners = other_owners(owner)
    is_copy = owners[1:] == [""]
    if is_copy and _QUANTISED.search(wanted):
        return []
    tokens = _tokens(wanted)
    names = {**{model: model for model in known_names()}, **aliases}
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
        preset = find_preset(name)
        config = preset and (preset.config, preset.files)
        if all(config != other for other, _ in found):
            found.append((config, name))
    return [name for _, name in found]


def nearest_models(name: str, most: int = 3) -> list[str]:
    """Up to ``most`` bundled ids that look like ``name``, the nearest first."""
    owner, _, wanted = name.lower().rpartition("/")
    scores: dict[str, float] = {}
    names = {**{model: model for model in known_names()}, **hub_aliases()}
    for known, model in names.items():
        other, _, candidate = known.lower().rpartition("/")
        score = _likeness(wanted, candidate)
        if score:
            same_owner = 0.2 if owner and owner == other else 0.0
            scores[model] = max(scores.get(model, 0.0), score + same_owner)
    return sorted(scores, key=lambda model: (-scores[model], len(model), model))[:most]


def _likeness(wanted: str, candidate: str) -> float:
    """How alike two names are; sizes and versions count beside the letters."""
    from difflib import SequenceMatcher

    wanted, candidate = (re.sub(r"[-_.]", "", name) for name in (wanted, candidate))
    matcher = SequenceMatcher(None, wanted, candidate, autojunk=False)
    begins = bool(wanted) and candidate.startswith(wanted)
    if not begins and (matcher.quick_ratio() < _ENOUGH or matcher.ratio() < _ENOUGH):
        return 0.0
    ours, theirs = (re.sub(r"\D", "", name) for name in (wanted, candidate))
    digits = SequenceMatcher(None, ours, theirs, autojunk=False).ratio()
    return matcher.ratio() + digits + (0.5 if begins else 0.0)
