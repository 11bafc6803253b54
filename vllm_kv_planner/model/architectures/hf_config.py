"""A config as vLLM sees it: what transformers' config class makes of the JSON.

The class renames keys (``n_embd`` is also ``hidden_size``), puts its own defaults behind what the
file leaves out (but not behind a null: that stays null), and works a few values out of others.
Which class does what is data: ``config_classes.json``, by ``model_type``.

Source: transformers 5.20 ``configuration_utils.py``, ``models/*/configuration_*.py`` and vLLM
0.33 ``transformers_utils/configs/``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from ..config import Config
from ..defaults import defaults_for
from .derived import DERIVATIONS

_OTHER_NAMES = {
    "hidden_size": ("n_embd", "d_model", "dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads"),
    "vocab_size": ("padded_vocab_size",),
}
"""Other spellings, for classes that only the checkpoint's own code knows."""

_RENAMED_TYPES = {"attention": "full_attention", "mamba": "linear_attention"}


@cache
def config_classes() -> Mapping[str, Mapping[str, Any]]:
    """What is known of transformers' config classes, by ``model_type``."""
    text = (files(__package__) / "config_classes.json").read_text(encoding="utf-8")
    classes: dict[str, Mapping[str, Any]] = json.loads(text)
    return classes


@cache
def config_class(model_type: str) -> Mapping[str, Any]:
    """What is known of one config class; nothing for unknown ones."""
    found = config_classes().get(model_type, {})
    return {**config_class(found["like"]), **found} if "like" in found else found


def as_transformers(config: Config, model_type: str) -> Config:
    """``config`` with its class's names, defaults and derived values in place."""
    known = config_class(model_type)
    values = {**defaults_for(model_type), **config.data}
    for alias, name in known.get("aliases", {}).items():
        if alias in config.data and name not in config.data:
            values[name] = config.data[alias]
        if name in values:
            values[alias] = values[name]
    for name, others in _OTHER_NAMES.items():
        if name not in values:
            given = (values[other] for other in others if other in values)
            values.update(dict.fromkeys((name,), next(given, None)))
    full = Config(values, config.where, prefix=config.prefix)
    if values.get("num_key_value_heads", 0) is None:
        values["num_key_value_heads"] = values.get("num_attention_heads")
    for step, *arguments in known.get("derive", ()):
        DERIVATIONS[step](full, values, *arguments)
    types = values.get("layer_types")
    if isinstance(types, list):
        values["layer_types"] = [
            _RENAMED_TYPES.get(kind, kind) if isinstance(kind, str) else kind for kind in types
        ]
    return full
