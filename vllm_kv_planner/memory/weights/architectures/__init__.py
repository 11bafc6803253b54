"""The table of families: ``families.json``, one row an architecture without a ``same_as``.

``rule`` names the function that builds the tree (``module:function`` in this folder), ``like``
another row whose keys this one takes (its own win). A wrapper's row has ``text``, the architecture
of the language model inside (``registry``: the table of cache layers says), ``text_options`` for
its rule, and ``wrapper``, the function that lists the towers beside it. All other keys are options
of the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any, cast

from ....errors import UnsupportedError
from ....files.json_file import read_json
from ....model.architectures.registry import same_as
from ....records import replace
from .facts import Facts, WeightTree

Row = Mapping[str, Any]
Rule = Callable[[Facts], WeightTree]


@cache
def table() -> Mapping[str, Row]:
    """Every row, by architecture."""
    rows: Mapping[str, Row] = read_json(__file__, "families.json")
    return rows


@cache
def family(architecture: str) -> Row | None:
    """The row of an architecture, with what it takes from another folded in; None without one."""
    found = table().get(architecture)
    if found is None:
        twin = same_as(architecture)
        if twin is not None:
            return family(twin)
        from .shapes import row_of

        found = row_of(architecture)
    if found is None or "like" not in found:
        return found
    base = family(found["like"]) or {}
    return {**base, **{key: value for key, value in found.items() if key != "like"}}


def text_row(architecture: str) -> Row | None:
    """The row of the language model, inside a wrapper or not."""
    found = family(architecture)
    if found is None or "wrapper" not in found:
        return found
    inner = None if found["text"] == "registry" else family(str(found["text"]))
    return None if inner is None else {**inner, **found.get("text_options", {})}


def text_architecture(facts: Facts, row: Row) -> str:
    """Architecture of the language model inside a wrapper."""
    if row["text"] == "registry":
        from .shapes import inner_architecture_of

        return inner_architecture_of(facts)
    return str(row["text"])


@cache
def rule(name: str) -> Any:
    """The function that ``module:function`` names."""
    module, _, function = name.partition(":")
    return getattr(import_module(f"{__package__}.{module}"), function)


def build(facts: Facts) -> WeightTree:
    """The tree of a model.

    Raises:
        UnsupportedError: Nobody wrote a rule for the architecture.
    """
    name = facts.description.architecture
    row = family(name)
    if row is None:
        raise UnsupportedError(
            f"weights of {name} are not known to the stand-alone planner; a local checkpoint's "
            "safetensors headers or --planner vllm can answer"
        )
    return build_row(facts, row)


def build_row(facts: Facts, row: Row) -> WeightTree:
    """The tree of a row; a wrapper's has towers around the language model's."""
    if "wrapper" not in row:
        return cast(Rule, rule(row["rule"]))(facts.with_options(row))
    name = text_architecture(facts, row)
    inner = family(name)
    if inner is None:
        raise UnsupportedError(f"weights of {name} are not known to the stand-alone planner")
    options: Row = {**inner, **row.get("text_options", {})}
    prefix = str(row.get("prefix", "language_model"))
    text = build_row(facts.with_options(options, prefix), options)
    outside = rule(row["wrapper"])(facts.with_options(row))
    if not isinstance(outside, WeightTree):
        return replace(text, first=(*outside, *text.first))
    return replace(
        text,
        first=(*outside.embedding, *outside.first, *text.first),
        last=(*outside.last, *text.last),
        everywhere=(*outside.everywhere, *text.everywhere),
    )
