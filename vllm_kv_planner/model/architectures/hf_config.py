"""A config as vLLM sees it: what transformers' config class makes of the JSON.

The class renames keys (``n_embd`` is also ``hidden_size``), puts its own defaults behind what the
file leaves out (but not behind a null: that stays null), and works a few values out of others.
Which class does what is data: ``config_classes.json``, by ``model_type``.

Source: transformers 5.20 ``configuration_utils.py``, ``models/*/configuration_*.py`` and vLLM
0.33 ``transformers_utils/configs/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from ...files.json_file import read_json, shown, updated
from ..class_rules import check_divisions, check_types, check_values
from ..config import Config
from ..defaults import class_line, defaults_for
from . import derived
from .registry import Resolved, model_types, roots_of_types

_OTHER_NAMES = {
    "hidden_size": ("n_embd", "d_model", "dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads"),
    "vocab_size": ("padded_vocab_size",),
}
"""Other spellings, for classes that only the checkpoint's own code knows."""

_RENAMED_TYPES = {"attention": "full_attention", "mamba": "linear_attention"}


_NESTED = (
    "text_config",
    "llm_config",
    "language_config",
    "thinker_config",
    "vlm_config",
    "decoder",
    "generator",
)
"""Where composite configs keep the language model's; it may be nested again."""


@cache
def config_classes() -> Mapping[str, Mapping[str, Any]]:
    """What is known of transformers' config classes, by ``model_type``."""
    classes: dict[str, Mapping[str, Any]] = read_json(__file__, "config_classes.json")
    return classes


@cache
def config_class(model_type: str) -> Mapping[str, Any]:
    """What is known of one config class; nothing for unknown ones."""
    found = config_classes().get(model_type, {})
    return {**config_class(found["like"]), **found} if "like" in found else found


def class_defaults(model_type: str) -> Mapping[str, Any]:
    """What the class answers for keys the file leaves out."""
    own = config_class(model_type).get("defaults")
    return {**defaults_for(model_type), **own} if own else defaults_for(model_type)


def language_config(top: Config, model_type: str, fallback_type: str) -> Config:
    """The language model's config, as its class has it (vLLM's ``get_hf_text_config``).

    ``fallback_type`` is the nested config's where neither it nor the outer class says one.
    """
    return as_transformers(*_innermost(top, model_type, fallback_type))


_TYPED_BY_VLLM = ("LongcatFlashForCausalLM", "LongcatFlashNgramForCausalLM")
"""Whose missing type vLLM fills in (``config.py`` ``_ARCHITECTURE_TO_MODEL_TYPE``)."""


def check_model_type(top: Config, model_type: str, resolved: Resolved) -> None:
    """Refuse a type without a config class, or with that of another kind of architecture.

    Where the checkpoint brings its own class (``auto_map``), vLLM takes that. An architecture that
    transformers does not have may have a type that it does not have either: copies of such configs
    often come without ``auto_map``.

    Raises:
        ConfigError: Naming the type, and the next step.

    Source: vLLM 0.33 ``transformers_utils/config.py`` ``HFConfigParser.parse``; transformers 5.20
    ``models/auto/configuration_auto.py`` ``AutoConfig.from_pretrained``.
    """
    names, code = resolved.row["names"], top.get("auto_map")
    known, types_of = model_types()["known"], model_types()["types_of"]
    if (isinstance(code, Mapping) and "AutoConfig" in code) or top.get("speculators_config"):
        return
    if not model_type and names[0] not in _TYPED_BY_VLLM:
        raise top.error("model_type", "is missing, the config class's name (--hf-overrides has it)")
    if model_type and model_type not in known and names[0] in types_of:
        raise top.error(
            "model_type",
            f"{shown(model_type)} is not known to transformers 5.20 or vLLM 0.33 (that of "
            f"{names[0]} is {types_of[names[0]].replace(' ', ' or ')}), and no auto_map names code",
        )
    roots, root = roots_of_types(), names[-1]
    if root not in roots.get(model_type, names) and any(root in each for each in roots.values()):
        raise top.error(
            "model_type",
            f"{shown(model_type)} has another kind of config class than {names[0]} reads; "
            "--planner vllm asks vLLM itself",
        )


def check_class(top: Config, model_type: str, fallback_type: str) -> None:
    """Refuse what the classes of a config and of the parts in it refuse.

    ``--hf-overrides`` come after the classes' checks, so ``top`` is without.

    Raises:
        ConfigError: Naming the key, its value and what is valid.
    """
    _check_parts(top, model_type)
    part, part_type = _innermost(top, model_type, fallback_type)
    if part.data is not top.data:
        check_types(part, part_type)
    check_values(as_transformers(part, part_type), part_type)


def _check_parts(own: Config, kind: str) -> None:
    """Types in an object and in the objects that its class makes configs of; widths of those."""
    check_types(own, config_class(kind).get("types", kind))
    defaults = class_defaults(kind)
    for key, value in own.data.items():
        if not isinstance(value, Mapping):
            continue
        default = _default_part(defaults, key)
        inner = _class_of(kind, key, value.get("model_type", default.get("model_type")))
        if isinstance(inner, str):
            prefix = f"{own.prefix}{key}."
            _check_parts(Config(value, own.where, prefix=prefix), inner)
            full = {**default, **class_defaults(inner), **value}
            check_divisions(Config(full, own.where, prefix=prefix), inner)


def _class_of(kind: str, key: str, named: Any) -> Any:
    """The class of the config that a class makes of what is behind ``key``; None: it makes none.

    ``named`` is the ``model_type`` there, which not every class asks.
    """
    line = class_line(kind)
    parts = line.get("parts", {}) if line else None
    if parts is None or (key in parts and parts[key] is None):
        return named
    return parts.get(key)


def _innermost(config: Config, model_type: str, fallback_type: str) -> tuple[Config, str]:
    """The language model's part as the file gives it, and its type; from the outside in."""
    known = config_class(model_type)
    defaults = class_defaults(model_type)
    keys = known.get("nested", _NESTED)
    given = next((key for key in keys if config.has(key)), None)
    if given is not None:
        part = config.sub(given)
        default = _default_part(defaults, given)
        own = (class_line(model_type).get("parts") or {}).get(given) or part.opt_str("model_type")
        if own is None or not class_defaults(own):
            own = default.get("model_type") or own or fallback_type
        if known.get("merged"):
            part = Config({**default, **part.data}, part.where, prefix=part.prefix)
        return _innermost(part, own, fallback_type)
    default = next(filter(None, (_default_part(defaults, key) for key in keys)), {})
    if not default:
        return config, model_type
    # Classes that may be flat take the language model's values from beside the others.
    flat = {key: value for key, value in config.data.items() if key not in _OUTER}
    values = {**default, **flat} if known.get("flat") else default
    part = Config(values, config.where, prefix=config.prefix)
    return _innermost(part, str(default.get("model_type", fallback_type)), fallback_type)


def nests(model_type: str, key: str) -> bool:
    """Whether the class makes a config of its own behind ``key``, in the file or not."""
    return bool(_default_part(class_defaults(model_type), key))


_OUTER = frozenset({"architectures", "model_type"})


def _default_part(defaults: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = defaults.get(key)
    return part if isinstance(part, Mapping) else {}


def as_transformers(config: Config, model_type: str) -> Config:
    """``config`` with its class's names, defaults and derived values in place."""
    known = config_class(model_type)
    values = {**class_defaults(model_type), **config.data}
    for alias, name in known.get("aliases", {}).items():
        if alias in config.data and name not in config.data:
            values[name] = config.data[alias]
        if name in values:
            values[alias] = values[name]
    for name, others in _OTHER_NAMES.items():
        if name not in values:
            given = next((other for other in others if other in values), None)
            if given is not None:
                values[name] = values[given]
    full = Config(values, config.where, prefix=config.prefix)
    if values.get("num_key_value_heads", 0) is None:
        values["num_key_value_heads"] = values.get("num_attention_heads")
    unknown = not known and not class_defaults(model_type)
    if unknown and values.get("use_sliding_window") is False:
        values["sliding_window"] = None  # the checkpoint's own class is one of Qwen's then
    for step, *arguments in known.get("derive", ()):
        getattr(derived, step)(full, values, *arguments)
    types = values.get("layer_types")
    if isinstance(types, list):
        values["layer_types"] = [
            _RENAMED_TYPES.get(kind, kind) if isinstance(kind, str) else kind for kind in types
        ]
    return full


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
