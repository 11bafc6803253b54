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
``encoder_tp``
    ``--mm-encoder-tp-mode data`` keeps what lies outside the language model whole on every GPU.
``lora_embeddings``
    Adapters may change embedding and head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ....errors import ConfigError, UnsupportedError
from ....files.json_file import find_line, shown
from ....model.architectures import registry
from ....model.config import Config
from ....model.defaults import defaults_for
from ....records import replace
from ..experts import RoutedExperts
from ..modules import (
    AttentionScales,
    Block,
    Heads,
    Linear,
    LMHead,
    Module,
    Rotary,
    TokenEmbedding,
    Weight,
)
from .attention import rotary
from .expression import Lookup, holds, number
from .facts import Facts, WeightTree, part

Row = Mapping[str, Any]

_MOST_LAYERS = 1_000
_PARTS = (
    ("vision", "vision"),
    ("visual", "vision"),
    ("audio", "audio"),
    ("shared_expert", "shared experts"),
    ("mamba", "mamba"),
    ("mixer", "mamba"),
    ("attn", "attention"),
    ("attention", "attention"),
    ("mlp", "mlp"),
    ("ffn", "mlp"),
    ("feed_forward", "mlp"),
    ("norm", "norms"),
)
"""Parts of the model by what a module's name holds, for the reader of the plan."""


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
        from . import family

        return family(found["like"])
    options = {key: found[key] for key in ("lora_embeddings", "unverified") if key in found}
    if "inner" in found:
        named = {"wrapper": "shapes:towers", "text": "registry", "prefix": found["inner"]}
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


def towers(facts: Facts) -> WeightTree:
    """What a model has beside the language model inside."""
    if facts.language_model_only:
        return WeightTree(embedding=(), layers=())
    found = tree(facts)
    if not _line_of(facts).get("encoder_tp"):
        return found
    return replace(found, first=(Block("", found.first, is_tower=True),))


def tree(facts: Facts) -> WeightTree:
    """The model as its line describes it.

    Raises:
        ConfigError: A key is absent, or makes no sense.
        UnsupportedError: A key has a value that nobody asked vLLM about.
    """
    found = _line_of(facts)
    names = Names(facts)
    _check(found, names)
    rows: Sequence[Row] = found["rows"]
    is_pooling = "pooling" in (registry.row(found["id"]) or {}).get("flags", ())
    if facts.description.runner_type == "pooling" and not is_pooling:
        # models/adapters.py turns a class into one that pools without its head
        rows = [row for row in rows if row["k"] != "head"]
    prefix, count = found.get("layers", ("", 0))
    number_of_layers = _count(count, names)
    stacks = found.get("stacks", {})
    sections: dict[str, list[Module]] = {}
    for place in dict.fromkeys(row["at"] for row in rows if row["at"] != "layer"):
        here = [row for row in rows if row["at"] == place]
        if place not in stacks:
            sections.setdefault(place, []).extend(_nested(here, names.at()))
            continue
        many, on = stacks[place]["of"], stacks[place]["on"]
        sections.setdefault(on, []).extend(
            Block(f"{place}.{i}", _nested(here, names.at(i)), part=_part(place))
            for i in range(_count(many, names))
        )
    inside = [row for row in rows if row["at"] == "layer"]
    layers = tuple(
        Block(f"{prefix}.{i}", _nested(inside, names.at(i))) for i in range(number_of_layers)
    )
    heads = sections.get("head", [])
    return WeightTree(
        embedding=tuple(sections.get("embedding", ())),
        first=tuple(sections.get("first", ())),
        layers=layers,
        last=tuple(sections.get("last", ())),
        head=heads[0] if heads else None,
        everywhere=tuple(sections.get("everywhere", ())),
        tied=facts.tied(),
    )


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


def _nested(rows: Iterable[Row], names: Lookup) -> tuple[Module, ...]:
    """The modules of rows whose conditions hold, in blocks by the names before their last part."""
    return _blocks(
        [
            (row["n"].split("."), row, names)
            for row in rows
            if "if" not in row or holds(row["if"], names)
        ]
    )


def _blocks(rows: list[tuple[list[str], Row, Lookup]]) -> tuple[Module, ...]:
    """Rows by the first part of their names; what holds one linear layer is no block of its own."""
    made: list[Module] = []
    deeper: dict[str, list[tuple[list[str], Row, Lookup]]] = {}
    for path, row, names in rows:
        own = 2 if row["k"] == "weight" or path[-1] == "routed_experts" else 1
        if len(path) > own:
            deeper.setdefault(path[0], []).append((path, row, names))
        else:
            made.append(_module(path, row, names))
    for name, inside in deeper.items():
        if sum(row["k"] == "linear" for _, row, _ in inside) == 1:
            made += [_module(path, row, names) for path, row, names in inside]
        else:
            children = _blocks([(path[1:], row, names) for path, row, names in inside])
            made.append(Block(name, children, part=_part(name)))
    return tuple(made)


def _module(path: list[str], row: Row, names: Lookup) -> Module:
    module = _MODULES[row["k"]](".".join(path), row, names)
    is_norm = row["k"] == "weight" and "norm" in path[-2 if len(path) > 1 else 0].lower()
    return Block("", (module,), part="norms") if is_norm else module


def _part(name: str) -> str | None:
    return next((label for word, label in _PARTS if word in name), None)


def _linear(name: str, row: Row, names: Lookup) -> Module:
    outputs: tuple[int | Heads, ...] = tuple(
        Heads(number(out[0], names), number(out[1], names))
        if isinstance(out, list)
        else number(out, names)
        for out in row["out"]
    )
    return Linear(
        name,
        number(row["in"], names),
        outputs,
        row["shard"],
        bias=_said(row.get("bias"), names),
        quantised=not row.get("plain"),
        dtype=row.get("dtype"),
    )


def _said(text: bool | str | None, names: Lookup) -> bool:
    return holds(text, names) if isinstance(text, str) else bool(text)


def _embedding(name: str, row: Row, names: Lookup) -> Module:
    return TokenEmbedding(
        name,
        number(row["rows"], names),
        number(row["width"], names),
        sharded=row.get("sharded", True),
    )


def _head(name: str, row: Row, names: Lookup) -> Module:
    bias = _said(row.get("bias"), names)
    return LMHead(name, number(row["rows"], names), number(row["width"], names), bias=bias)


def _experts(name: str, row: Row, names: Lookup) -> Module:
    return RoutedExperts(
        name.removesuffix(".routed_experts"),
        number(row["experts"], names),
        number(row["hidden"], names),
        number(row["intermediate"], names),
        gated=row.get("gated", True),
        bias=_said(row.get("bias"), names),
        score_bias=_said(row.get("score_bias"), names),
        activation=row.get("activation", "silu"),
        renormalizes=row.get("renormalizes", True),
        projections=tuple(row["projections"]),
    )


def _attention(name: str, row: Row, names: Lookup) -> Module:
    return AttentionScales(name, is_latent=bool(row.get("is_latent")))


def _rotary(name: str, row: Row, names: Lookup) -> Module:
    variant, dtype = str(row.get("variant", "")), row.get("dtype")
    if "head" in row:
        facts = names("$facts").with_options(row)
        return rotary(facts, number(row["head"], names), dtype=dtype, variant=variant, name=name)
    rows, width = (number(each, names) for each in row["shape"])
    return Rotary(rows, width, dtype, variant, name)


def _weight(name: str, row: Row, names: Lookup) -> Module:
    shape = tuple(number(each, names) for each in row["shape"])
    return Weight(name, shape, sharded=row.get("cut"), dtype=row.get("dtype"))


_MODULES: Mapping[str, Callable[[str, Row, Lookup], Module]] = {
    "linear": _linear,
    "embedding": _embedding,
    "head": _head,
    "experts": _experts,
    "attention": _attention,
    "rotary": _rotary,
    "weight": _weight,
}
