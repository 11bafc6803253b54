"""The architecture table: which rule answers for which architecture of vLLM 0.33's registry.

Two data files, one row per architecture name: ``attention.json`` (caches are plain attention) and
``latent_state.json`` (latent attention, states, special caches). What a row may hold:

``rule``
    ``module:function`` in this package; it lists the cache layers, in vLLM's construction order.
``like``
    Another row whose rule and options this one takes (its own keys win).
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

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from typing import Any, cast

from ...errors import UnsupportedError
from ...files.data import read_json
from ...files.json_file import shown
from ..layers.base import CacheLayer
from .reader import ModelReader

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
    base = (row(found["like"]) or {}) if "like" in found else {}
    own = {key: value for key, value in found.items() if key != "like"}
    return {**base, **own, "names": (architecture, *base.get("names", ()))}


@cache
def rule(name: str) -> Rule:
    """The function that ``module:function`` names."""
    module, _, function = name.partition(":")
    return cast(Rule, getattr(import_module(f"{__package__}.{module}"), function))


def unsupported(architecture: str, where: str) -> UnsupportedError:
    """The refusal of an architecture nobody wrote a rule for, with the nearest that have one."""
    from difflib import get_close_matches

    near = get_close_matches(architecture, table(), n=3, cutoff=0.75)
    hint = f" (nearest known: {', '.join(near)})" if near else ""
    return UnsupportedError(
        f"{where}: architecture {shown(architecture)} has no rule in the stand-alone planner"
        f"{hint}; --planner vllm asks vLLM itself"
    )
