"""What a model's own config class answers where config.json says nothing.

Published configs omit what equals the default of their transformers class (gemma-3-4b-it omits
its head counts). ``defaults.jsonl`` holds those defaults, the size-relevant ones, for every
model type that holds a language model; ``tools/make_defaults.py`` wrote it from transformers'
classes and vLLM's own. Whatever it cannot answer, transformers itself can, where installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..files.data import find_line
from ..files.json_file import shown

_known: dict[str, Mapping[str, Any]] = {}


def defaults_for(model_type: str) -> Mapping[str, Any]:
    """The default of each key that ``model_type``'s class sets to a fixed value.

    Keys that the class derives from others (``num_key_value_heads`` from
    ``num_attention_heads`` in Llama) are absent, as only the config at hand can tell. A nested
    config appears as its ``model_type`` and whatever differs from that type's own defaults.
    An unknown model type has no defaults: ``{}``.
    """
    found: Mapping[str, Any] = class_line(model_type).get("defaults", {})
    return found


def class_line(model_type: str) -> Mapping[str, Any]:
    """All that is known of ``model_type``'s class; nothing of an unknown one.

    Beside ``defaults``: ``types``, names of fields by the JSON types they take; ``divides``, pairs
    of fields of which the first must be a multiple of the second; ``layer_types``, whether the
    class minds what its list of layer types holds.
    """
    if model_type not in _known:
        line = None
        if model_type and len(model_type) < 100:
            line = find_line(__file__, "defaults.jsonl", model_type.lower())
        _known[model_type] = line or {}
    return _known[model_type]


def transformers_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` completed by its transformers class: every field it has, nested ones too.

    Uses only classes that transformers ships: a config's ``auto_map`` (code of its own) is
    not followed. Raises ConfigError without transformers, for a model type it does not have,
    and for a config its class refuses.
    """
    import importlib

    model_type = config.get("model_type")
    try:
        # Seconds to import, and optional: only for configs that the bundled table cannot answer.
        transformers = importlib.import_module("transformers")
    except ImportError:
        raise ConfigError(
            f"the config of model_type {shown(model_type)} omits fields that only transformers "
            "can fill in: pip install transformers"
        ) from None
    mapping = transformers.CONFIG_MAPPING
    if not isinstance(model_type, str) or model_type not in mapping:
        raise ConfigError(
            f"transformers {transformers.__version__} has no model_type {shown(model_type)}"
        )
    plain = {key: value for key, value in config.items() if key != "auto_map"}
    try:
        completed: dict[str, Any] = mapping[model_type].from_dict(plain).to_dict()
    except Exception as error:  # whatever a class raises at a config it does not like
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"transformers refuses the config: {reason}") from None
    return completed
