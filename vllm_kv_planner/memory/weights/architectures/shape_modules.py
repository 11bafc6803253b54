"""Rows of ``shapes.jsonl`` as vLLM's layers: linear, tables, experts, ropes, plain tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

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

Row = Mapping[str, Any]

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


def nested(rows: Iterable[Row], names: Lookup, part: str | None = None) -> tuple[Module, ...]:
    """The modules of rows whose conditions hold, in blocks by the names before their last part.

    ``part``: of the model, that all belong to; else their names say.
    """
    return _blocks(
        [
            (row["n"].split("."), row, names)
            for row in rows
            if "if" not in row or holds(row["if"], names)
        ],
        part,
    )


def _blocks(rows: list[tuple[list[str], Row, Lookup]], part: str | None) -> tuple[Module, ...]:
    """Rows by the first part of their names; what holds one linear layer is no block of its own."""
    made: list[Module] = []
    deeper: dict[str, list[tuple[list[str], Row, Lookup]]] = {}
    for path, row, names in rows:
        own = 2 if row["k"] == "weight" or path[-1] == "routed_experts" else 1
        if len(path) > own:
            deeper.setdefault(path[0], []).append((path, row, names))
        else:
            made.append(_module(path, row, names, part))
    for name, inside in deeper.items():
        if sum(row["k"] == "linear" for _, row, _ in inside) == 1:
            made += [_module(path, row, names, part) for path, row, names in inside]
        else:
            children = _blocks([(path[1:], row, names) for path, row, names in inside], part)
            made.append(Block(name, children, part=part or part_of(name)))
    return tuple(made)


def _module(path: list[str], row: Row, names: Lookup, part: str | None) -> Module:
    module = _MODULES[row["k"]](".".join(path), row, names)
    is_norm = row["k"] == "weight" and "norm" in path[-2 if len(path) > 1 else 0].lower()
    return Block("", (module,), part="norms") if is_norm and part is None else module


def part_of(name: str) -> str | None:
    """The part of the model that a module of this name belongs to; None where it says nothing."""
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
