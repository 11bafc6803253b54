"""``--hf-overrides`` put into a config as vLLM 0.33 puts them.

Source: ``ModelConfig._apply_dict_overrides``, ``_update_nested`` (vllm/config/model.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .architectures.hf_config import config_class, nests


def overridden(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config with ``--hf-overrides`` in it (``ModelConfig._apply_dict_overrides``).

    Objects replace what was there, except that a nested config is updated key by key. Where the
    file has the language model's values beside the others, so are they. A name of transformers'
    stands for the class's own (``num_hidden_layers`` for GPT-2's ``n_layer``).
    """
    if not overrides:
        return config
    values = dict(config)
    model_type = str(config.get("model_type", ""))
    own_name: Mapping[str, str] = config_class(model_type).get("aliases", {})
    for key, value in overrides.items():
        if not isinstance(value, Mapping) or not is_nested_config(key):
            values[own_name.get(key, key)] = value
            if key in ("dtype", "torch_dtype") and isinstance(value, str):
                # stays text where vLLM expects torch's own type, and so is none it supports
                values.pop("torch_dtype", None)
                values["dtype"] = f"{value} (text of --hf-overrides)"
        elif isinstance(config.get(key), Mapping):
            values[key] = updated(config[key], value)
        elif nests(model_type, key):
            values.update(value)
        else:
            values[key] = value
    return values


def is_nested_config(key: str) -> bool:
    """Whether a class makes a config of its own of this key's object."""
    return key.endswith("_config") and not key.startswith(("quantization_", "compression_"))


def updated(values: Mapping[str, Any], changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """``values`` with the changes in them, objects key by key."""
    result = dict(values)
    for key, value in changes.items():
        old = result.get(key)
        nested = isinstance(value, Mapping) and isinstance(old, Mapping)
        result[key] = updated(old, value) if nested else value  # type: ignore[arg-type]
    return result
