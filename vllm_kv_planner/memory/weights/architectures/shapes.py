"""Weights of architectures that vLLM's own classes were asked about: ``shapes.jsonl``.

``tools/make_weights.py`` wrote it: for each architecture the modules that its class builds, every
width an expression over the config's keys (``expression.py``). A line:

``id``
    The architecture.
``layers``
    Name and number of the decoder's layers.
``stacks``
    Other lists of modules, by name: ``of`` (their number), ``on`` (as ``at`` below).
``inner``
    Name of the language model inside, whose own rule lists its part.
``rows``
    Modules: ``n`` (name; inside a layer where ``at`` is ``layer``), ``k`` (kind), widths, ``if``
    (condition), ``at`` (where it is built: ``embedding``, ``first``, ``layer``, ``last``, ``head``,
    ``everywhere``; or the name of one of ``stacks``).
``needs``
    Keys whose default is not known here: a config without them is refused.
``only``
    Keys at whose other values nobody looked: a config with another one is refused.
``like``
    Another architecture whose rule holds for this one, in place of all these.
``unverified``
    Flags with which vLLM's bytes did not come out: refused.
``towers``
    Modules that are built where one of their modalities may come (``--limit-mm-per-prompt``).
``encoder_tp``
    ``--mm-encoder-tp-mode data`` keeps them whole on every GPU.
``lora_embeddings``
    Adapters may change embedding and head.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ....errors import ConfigError, UnsupportedError
from ....files.json_file import find_line, shown
from ....model.architectures import registry
from ....model.config import Config
from ....model.defaults import defaults_for
from ..modules import Block, Module
from .expression import Lookup, number
from .facts import Facts, WeightTree, part
from .shape_modules import Row, nested, part_of

_MOST_LAYERS = 1_000
_PLACES = ("embedding", "first", "layer", "last", "head", "everywhere")


def line(architecture: str) -> Mapping[str, Any] | None:
    """What is known of an architecture; None where it is none of these."""
    found = find_line(__file__, "shapes.jsonl", architecture.lower())
    return None if found is None or found["id"] != architecture else found


class Names:
    """Values of the names in an expression.

    Keys of the language model's config; ``top.key`` of the whole one; ``vision_config.key`` of one
    inside it, its class's defaults behind it; ``$heads``, ``$kv_heads``, ``$head_size``,
    ``$layers``, ``$labels``, ``$tied`` by vLLM's general rules; ``i``, the layer's number.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        outer = defaults_for(facts.top.str("model_type", default=""))
        self.top = facts.top.with_defaults(outer)
        self.parts: dict[str, Config | None] = {}

    def at(self, index: int | None = None) -> Lookup:
        """The lookup for the layer of a number."""
        return lambda name: index if name == "i" else self.value(name)

    def value(self, name: str) -> Any:
        """The value of a name; None where the config has none."""
        if name[0] == "$":
            return self._general(name)
        head, _, rest = name.partition(".")
        if not rest:
            return self.facts.text.get(name)
        if head == "top":
            return self.top.get(rest)
        if head not in self.parts:
            inside = self.facts.text.get(head)
            outside = part(self.facts, head)
            is_text = isinstance(inside, Mapping) and not self.facts.top.has(head)
            self.parts[head] = Config(inside, "config.json") if is_text else outside
        config = self.parts[head]
        for key in rest.split(".")[:-1]:
            config = None if config is None else config.opt_sub(key)
        return None if config is None else config.get(rest.rpartition(".")[2])

    def _labels(self) -> int:
        """Classes that a classifier tells apart; two unless the config says, as transformers."""
        stated = self.top.opt_int("num_labels")
        names = self.top.get("id2label")
        return stated or (len(names) if isinstance(names, Mapping) and names else 2)

    def _general(self, name: str) -> Any:
        facts = self.facts
        return {
            "$heads": facts.heads,
            "$kv_heads": facts.kv_heads,
            "$head_size": facts.head_size,
            "$layers": facts.num_layers,
            "$tied": facts.tied(),
            "$labels": self._labels(),
            "$facts": facts,
        }[name]


def row_of(architecture: str) -> Row | None:
    """The line as a row of the table of families."""
    found = line(architecture)
    if found is None:
        return None
    if "like" in found:
        return {"like": found["like"]}
    options = {key: found[key] for key in ("lora_embeddings", "unverified") if key in found}
    if "inner" in found:
        named = {"wrapper": "shapes:tree", "text": "registry", "prefix": found["inner"]}
        return {**named, "line": architecture, **options}
    return {"rule": "shapes:tree", "line": architecture, **options}


def inner_architecture_of(facts: Facts) -> str:
    """Architecture of the language model inside, as the table of cache layers says."""
    outer = facts.description.architecture
    found = registry.row(outer) or {}
    kind = facts.text.str("model_type", default="")
    return registry.inner_architecture(found, facts.text.data, kind, facts.text.where)


def _line_of(facts: Facts) -> Mapping[str, Any]:
    found = line(str(facts.options["line"]))
    assert found is not None
    return found


def _tower_of(row: Row, towers: Mapping[str, Any]) -> str | None:
    """The tower that a row lies in."""
    name = row["n"] if row["at"] in _PLACES else f"{row['at']}.{row['n']}"
    return next((each for each in towers if name == each or name.startswith(f"{each}.")), None)


def tree(facts: Facts) -> WeightTree:
    """The model as its line describes it; of a line with ``inner``, what lies around that.

    Raises:
        ConfigError: A key is absent, or makes no sense.
        UnsupportedError: A key has a value that nobody asked vLLM about.
    """
    found = _line_of(facts)
    names = Names(facts)
    towers = found.get("towers", {})
    absent = {name for name, kinds in towers.items() if not facts.builds_tower(*kinds)}
    rows = [row for row in found["rows"] if _tower_of(row, towers) not in absent]
    if not rows:
        return WeightTree(embedding=(), layers=())
    _check(found, names)
    is_pooling = "pooling" in (registry.row(found["id"]) or {}).get("flags", ())
    if facts.description.runner_type == "pooling" and not is_pooling:
        # models/adapters.py turns a class into one that pools without its head
        rows = [row for row in rows if row["k"] != "head"]
    prefix, count = found.get("layers", ("", 0))
    number_of_layers = _count(count, names)
    sections = _sections(found, rows, names)
    inside = [row for row in rows if row["at"] == "layer"]
    layers = tuple(
        Block(f"{prefix}.{i}", nested(inside, names.at(i))) for i in range(number_of_layers)
    )
    heads = sections.get("head", ())
    return WeightTree(
        embedding=tuple(sections.get("embedding", ())),
        first=tuple(sections.get("first", ())),
        layers=layers,
        last=tuple(sections.get("last", ())),
        head=heads[0] if heads else None,
        everywhere=tuple(sections.get("everywhere", ())),
        tied=facts.tied(),
    )


def _sections(
    found: Mapping[str, Any], rows: Iterable[Row], names: Names
) -> Mapping[str, Sequence[Module]]:
    """What lies outside the layers, by where it is built; of towers in blocks of their own."""
    stacks, towers = found.get("stacks", {}), found.get("towers", {})
    is_whole = bool(found.get("encoder_tp"))
    split: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        if row["at"] != "layer":
            tower = _tower_of(row, towers)
            part = None if tower is None else "audio" if towers[tower] == ["audio"] else "vision"
            split.setdefault((row["at"], part), []).append(row)
    sections: dict[str, list[Module]] = {}
    for (place, part), here in split.items():
        made: tuple[Module, ...]
        if place in stacks:
            on, many = stacks[place]["on"], _count(stacks[place]["of"], names)
            made = tuple(
                Block(f"{place}.{i}", nested(here, names.at(i), part), part=part or part_of(place))
                for i in range(many)
            )
        else:
            on, made = place, nested(here, names.at(), part)
        sections.setdefault(on, []).extend((Block("", made, part, is_whole),) if part else made)
    return sections


def _check(found: Mapping[str, Any], names: Names) -> None:
    for key in found.get("needs", ()):
        if names.value(key) is None:
            raise ConfigError(f"config.json: {key} is not given, and weights depend on it")
    for key, known in found.get("only", {}).items():
        value = names.value(key)
        if value not in known:
            raise UnsupportedError(
                f"weights of {found['id']} are known for {key} = "
                f"{' or '.join(shown(each) for each in known)} only, not for {shown(value)}"
            )


def _count(text: int | str, names: Names) -> int:
    count = number(text, names.at())
    if not 0 <= count <= _MOST_LAYERS:
        raise ConfigError(f"config.json: {text} must be from 0 to {_MOST_LAYERS:,}, is {count}")
    return count
