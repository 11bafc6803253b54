"""The architecture table: which rule answers for which architecture of vLLM 0.33's registry.

Two data files, one row per architecture name: ``attention.json`` (caches are plain attention) and
``latent_state.json`` (latent attention, states, special caches). What a row may hold:

``rule``
    ``module:function`` in this package; it lists the cache layers, in vLLM's construction order.
``like``
    Another row whose rule and options this one takes (its own keys win).
``same_as``
    The same, and its weights too: one row is all that a plain architecture needs.
``text``
    For wrappers: architecture of the language model inside, where vLLM's wrapper insists on one;
    ``true`` where the nested config names its own; or by the value of a ``key`` of the config.
``flags``
    What vLLM's class declares: ``pooling``, ``no_generate``, ``multimodal``, ``hybrid``,
    ``attention_free``, ``noops``, ``no_pp``.
``text_type``
    ``model_type`` of the nested config, where neither it nor transformers says.
``is_causal``
    False, or the key (``not key``) that decides it, where vLLM sets it by architecture.
``mamba_ssm_dtype``
    Key and default of the recurrent states' dtype under ``auto``.
``removed_in``, ``plugin``
    Last vLLM version that had it, where 0.33 has it no more; the plugin that brings it back.
any other key
    An option of the rule; the rule's docstring says which.

Source: vLLM 0.33 ``model_executor/models/registry.py``; the classes behind each name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, cast

from ...errors import InputError, UnsupportedError, nearest
from ...files.json_file import read_json, shown
from ...records import dataclass
from ..description import ModelReader
from ..layers.base import CacheLayer

Row = Mapping[str, Any]
Rule = Callable[[ModelReader], Iterable[CacheLayer]]

_TABLES = ("attention.json", "latent_state.json")


@cache
def table() -> Mapping[str, Row]:
    """Every row, by architecture."""
    rows: dict[str, Row] = {}
    for name in _TABLES:
        rows.update(read_json(__file__, name))
    return rows


@cache
def row(architecture: str) -> Row | None:
    """The row of an architecture, with what it takes from another folded in; None without one.

    ``names`` in it: the architecture, and those it is like.
    """
    found = table().get(architecture)
    if found is None:
        return None
    other = found.get("like") or same_as(architecture)
    base = (row(other) or {}) if other else {}
    own = {key: value for key, value in found.items() if key not in ("like", "same_as")}
    return {**base, **own, "names": (architecture, *base.get("names", ()))}


def same_as(architecture: str) -> str | None:
    """The architecture that this one is another name of, caches and weights alike."""
    return table().get(architecture, {}).get("same_as")


@cache
def rule(name: str) -> Rule:
    """The function that ``module:function`` names."""
    module, _, function = name.partition(":")
    return cast(Rule, getattr(import_module(f"{__package__}.{module}"), function))


def unsupported(architecture: str, where: str) -> UnsupportedError:
    """The refusal of an architecture nobody wrote a rule for, with the nearest that have one."""
    near = nearest(architecture, table(), 3, 0.75)
    hint = f" (nearest known: {', '.join(near)})" if near else ""
    return UnsupportedError(
        f"{where}: architecture {shown(architecture)} has no rule in the stand-alone planner"
        f"{hint}; --planner vllm asks vLLM itself"
    )


_SUFFIXES: Mapping[str, tuple[str, str]] = {
    "ForCausalLM": ("generate", "none"),
    "ForConditionalGeneration": ("generate", "none"),
    "ChatModel": ("generate", "none"),
    "LMHeadModel": ("generate", "none"),
    "ForTextEncoding": ("pooling", "embed"),
    "EmbeddingModel": ("pooling", "embed"),
    "ForSequenceClassification": ("pooling", "classify"),
    "ForTokenClassification": ("pooling", "classify"),
    "ForAudioClassification": ("pooling", "classify"),
    "ForImageClassification": ("pooling", "classify"),
    "ForVideoClassification": ("pooling", "classify"),
    "ClassificationModel": ("pooling", "classify"),
    "ForRewardModeling": ("pooling", "embed"),
    "RewardModel": ("pooling", "embed"),
    "Model": ("pooling", "embed"),
}
"""Ends of names that say what a model is for, first match first: runner and conversion."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The architecture that answers.

    Attributes:
        architecture: Its name as the config gives it.
        row: The row that describes its class (of the base model where vLLM converts one).
        runner_type: ``generate`` or ``pooling``.
    """

    architecture: str
    row: Row
    runner_type: str


@cache
def model_types() -> Mapping[str, Any]:
    """What transformers and vLLM have a config class for (``tools/make_defaults.py``).

    ``base`` and ``causal_lm``: transformers' class names by ``model_type``. ``known``: every
    ``model_type``. ``types_of``: by architecture, those that transformers' tables give it.
    """
    names: Mapping[str, Any] = read_json(__file__, "model_types.json")
    return names


@cache
def roots_of_types() -> Mapping[str, frozenset[str]]:
    """By ``model_type``, the last of ``names`` in the rows of the architectures that have it."""
    roots: dict[str, set[str]] = {}
    for architecture, types in model_types()["types_of"].items():
        for kind in types.split():
            roots.setdefault(kind, set()).add((row(architecture) or {})["names"][-1])
    return {kind: frozenset(names) for kind, names in roots.items()}


def resolve(
    architectures: Sequence[str], *, runner: str, convert: str, is_pooling: bool, where: str
) -> Resolved:
    """The first architecture with a rule, by its own name or as a conversion of its base model.

    ``is_pooling``: the checkpoint has a sentence-transformers pooling configuration.

    Raises:
        UnsupportedError: None of them has a rule.
        InputError: The model cannot do what ``runner`` asks.
    """
    for architecture in architectures:
        found = row(architecture) or _base_row(architecture)
        if found is not None:
            runner_type = _runner_type(architecture, found, runner, convert, is_pooling)
            if runner_type == "generate" and "no_generate" in found.get("flags", ()):
                raise InputError(
                    f"{where}: {architecture} is a pooling model; --runner generate "
                    "does not apply (use --runner pooling)"
                )
            return Resolved(architecture=architecture, row=found, runner_type=runner_type)
    raise unsupported(architectures[0], where)


def _base_row(architecture: str) -> Row | None:
    """Row of the model that vLLM converts to this one: ``Qwen3ForSequenceClassification``."""
    suffix = next((end for end in _SUFFIXES if architecture.endswith(end)), None)
    if suffix is None:
        return None
    stem = architecture.removesuffix(suffix)
    return next((found for end in _SUFFIXES if (found := row(stem + end)) is not None), None)


def _runner_type(architecture: str, found: Row, runner: str, convert: str, is_pooling: bool) -> str:
    if runner in ("generate", "pooling"):
        return runner
    if convert not in ("auto", "none") or is_pooling:
        return "pooling"
    if row(architecture) is not None:
        flags = found.get("flags", ())
        if "pooling" in flags:
            return "pooling"
        if "no_generate" not in flags:
            return "generate"
    ends = (kind for end, (kind, _) in _SUFFIXES.items() if architecture.endswith(end))
    return next(ends, "generate")


def inner_architecture(found: Row, text: Mapping[str, Any], model_type: str, where: str) -> str:
    """Architecture of the language model inside a wrapper."""
    named = found["text"]
    if isinstance(named, str):
        return named
    if isinstance(named, dict):
        version = str(text.get(named["key"], ""))
        if version not in named:
            known = ", ".join(filter(None, named.keys() - {"key"}))
            raise UnsupportedError(f"{where}: {named['key']} must be one of {known}")
        return str(named[version])
    listed = text.get("architectures")
    if isinstance(listed, list) and listed and isinstance(listed[0], str):
        return listed[0]
    causal: str | None = model_types()["causal_lm"].get(model_type)
    if causal is None:
        raise UnsupportedError(
            f"{where}: the language model inside is of type {shown(model_type)}, for which there "
            "is no rule; --planner vllm asks vLLM itself"
        )
    return causal
