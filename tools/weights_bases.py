"""The config that an architecture's variants start from: published, or its class's defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vllm_kv_planner.errors import PlannerError
from vllm_kv_planner.model.describe import describe

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "configs"
OWN = Path(__file__).with_name("weights_bases.json")
"""Configs by architecture, entered by hand where no published one and no class is at hand."""


@cache
def published() -> dict[str, Any]:
    """The first published config of each architecture, without its quantisation."""
    found: dict[str, Any] = {}
    if OWN.exists():
        found.update(json.loads(OWN.read_text(encoding="utf-8")))
    texts = [path.read_text(encoding="utf-8") for path in sorted(SHARED.glob("*.json"))]
    presets = (ROOT / "vllm_kv_planner" / "config" / "presets.jsonl").read_text(encoding="utf-8")
    configs = [json.loads(text) for text in texts]
    configs += [json.loads(line).get("config", {}) for line in presets.splitlines()]
    for config in configs:
        names = config.get("architectures") if isinstance(config, dict) else None
        if names and names[0] not in found and is_planned(config):
            plain = {
                k: v for k, v in config.items() if k not in ("quantization_config", "auto_map")
            }
            found[names[0]] = plain
    return found


def is_planned(config: Mapping[str, Any]) -> bool:
    """Whether the planner takes the config: one it refuses is none to start from."""
    try:
        describe(config, where="config.json")
    except PlannerError:
        return False
    return True


@cache
def types() -> dict[str, str]:
    """``model_type`` by architecture, as transformers maps them."""
    from transformers.models.auto import modeling_auto

    found: dict[str, str] = {}
    for name, mapping in vars(modeling_auto).items():
        if name.endswith("_MAPPING_NAMES"):
            for kind, made in mapping.items():
                for architecture in made if isinstance(made, (tuple, list)) else (made,):
                    found.setdefault(str(architecture), kind)
    return found


def base(architecture: str, kin: Sequence[str]) -> dict[str, Any] | None:
    """A config to start from, or that of another with the same class; None where none is known."""
    known = (known_config(name) for name in (architecture, *kin))
    config = next(filter(None, known), None)
    if config is None:
        return None
    labels = {"num_labels": 3} if "Classification" in architecture else {}
    stated = {**config, **labels, "architectures": [architecture], "torch_dtype": "bfloat16"}
    return completed(stated)


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the numbers and switches that its class, and those inside, say by default.

    What a config leaves out is varied as well, where a class has a value for it.
    """
    made = class_of(str(config.get("model_type")))
    try:
        full = {} if made is None else clean(made.from_dict(dict(config)).to_dict())
    except Exception:
        full = {}
    other = {own: alias for alias, own in (getattr(made, "attribute_map", None) or {}).items()}
    return _filled(config, full, other)


def _filled(
    stated: Mapping[str, Any], full: Mapping[str, Any], other: Mapping[str, str]
) -> dict[str, Any]:
    found = dict(stated)
    for key, value in full.items():
        if isinstance(value, Mapping) and isinstance(found.get(key, {}), Mapping):
            inner = class_of(str(value.get("model_type")))
            inside = {o: a for a, o in (getattr(inner, "attribute_map", None) or {}).items()}
            if inner is not None:
                found[key] = _filled(found.get(key, {}), value, inside)
        elif key not in found and other.get(key) not in found and isinstance(value, int):
            found[key] = value
    return found


def class_of(kind: str) -> Any:
    """The config class of a model type; None where neither vLLM nor transformers has one."""
    import transformers
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    known = (each for each in (_CONFIG_REGISTRY, transformers.CONFIG_MAPPING) if kind in each)
    found = next(known, None)
    return None if found is None else found[kind]  # get() of a lazy mapping finds nothing


def known_config(architecture: str) -> dict[str, Any] | None:
    """A published config, or the defaults of a class with what was entered by hand."""
    found = published().get(architecture)
    if found is None or found.pop("of_class", False):
        found = {**(of_class(architecture) or {}), **(found or {})}
    return found or None


def of_class(architecture: str) -> dict[str, Any] | None:
    """What the config class of transformers, or vLLM's own, says by default."""
    import transformers
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    kind = types().get(architecture) or guessed(
        architecture, (*_CONFIG_REGISTRY, *transformers.CONFIG_MAPPING)
    )
    if kind is None:
        return None
    try:
        values = class_of(kind)().to_dict()
    except Exception:
        return None
    return clean({**values, "model_type": kind})


SUFFIXES = (
    "ForCausalLM",
    "ForConditionalGeneration",
    "ForSequenceClassification",
    "Model",
    "ForTokenClassification",
    "ChatModel",
    "ForMaskedLM",
    "LMHeadModel",
    "ForRetrieval",
    "",
)


def guessed(architecture: str, kinds: tuple[str, ...]) -> str | None:
    """The model type that is spelled as the architecture is."""
    plain = {kind.replace("_", "").replace("-", "").lower(): kind for kind in reversed(kinds)}
    for suffix in SUFFIXES:
        if architecture.endswith(suffix):
            found = plain.get(architecture.removesuffix(suffix).replace("_", "").lower())
            if found is not None:
                return found
    return None


def clean(value: Any) -> Any:
    """Without what says nothing of sizes, and plain JSON."""
    skipped = (
        "id2label",
        "label2id",
        "transformers_version",
        "_name_or_path",
        "dtype",
        "use_cache",
    )
    if isinstance(value, dict):
        return {str(k): clean(v) for k, v in value.items() if k not in skipped}
    if isinstance(value, (list, tuple)):
        return [clean(v) for v in value]
    return value if isinstance(value, (int, float, str, bool, type(None))) else None
