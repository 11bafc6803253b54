"""Which layers a checkpoint leaves unquantised: names and patterns against vLLM's layer names.

Source: vLLM 0.33 ``layers/quantization/utils/quant_utils.py`` ``is_layer_skipped``,
``layers/quantization/compressed_tensors/utils.py`` ``should_ignore_layer``, and the models'
``packed_modules_mapping`` and ``hf_to_vllm_mapper``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Any

from ....errors import ConfigError

PACKED: Mapping[str, Sequence[str]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "fused_qkv_a_proj": ("q_a_proj", "kv_a_proj_with_mqa"),
    "in_proj_qkvz": ("in_proj_qkv", "in_proj_z"),
    "in_proj_ba": ("in_proj_b", "in_proj_a"),
}
"""vLLM's merged layers and the checkpoint's names of their parts."""

_RENAMED = (
    ("model.language_model.", "language_model.model."),
    ("model.visual.", "visual."),
    ("model.vision_tower", "vision_tower"),
    ("model.vision_model", "vision_model"),
    ("model.embed_vision", "embed_vision"),
    ("model.audio_tower", "audio_tower"),
    ("model.multi_modal_projector", "multi_modal_projector"),
    ("lm_head.", "language_model.lm_head."),
)
"""Checkpoint's beginnings of names and vLLM's, for models with a language model inside."""


def listed(config: Mapping[str, Any], *keys: str) -> list[str]:
    """Names under the first key that is set; none where no key is.

    Raises:
        ConfigError: It is no list of strings.
    """
    for key in keys:
        value = config.get(key)
        if value:
            if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                raise ConfigError(f"quantization_config: {key} must be a list of layer names")
            return value
    return []


def renamed(names: Iterable[str], *, is_composite: bool) -> list[str]:
    """Names of a checkpoint as vLLM's model has them."""
    if not is_composite:
        return list(names)
    return [_rename(name) for name in names]


def _rename(name: str) -> str:
    for old, new in _RENAMED:
        if name.startswith(old):
            return new + name[len(old) :]
    return name


def parts_of(prefix: str, packed: Mapping[str, Sequence[str]] = PACKED) -> list[str]:
    """The checkpoint's layers behind one of vLLM's; the layer itself where it is not merged."""
    last = prefix.rpartition(".")[2]
    return [prefix.replace(last, part) for part in packed.get(last, (last,))]


class SkippedLayers:
    """``is_layer_skipped`` in its exact mode: layers listed by name.

    A merged layer counts as skipped when its parts are; experts when any listed expert's name
    begins with theirs.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        self.experts = [name for name in self.names if "experts" in name]

    def __contains__(self, prefix: str) -> bool:
        last = prefix.rpartition(".")[2]
        if last in PACKED:
            return prefix in self.names or all(part in self.names for part in parts_of(prefix))
        if "experts" in prefix:
            return any(prefix in name for name in self.experts)
        return prefix in self.names


class ByLayerNumber:
    """Patterns sorted by the layer number they name, so that few are tried for each name."""

    _NUMBER = re.compile(r"(?:layers|blocks)\.(\d+)\.")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.everywhere: list[str] = []
        self.numbered: dict[str, list[str]] = {}
        for pattern in patterns:
            found = self._NUMBER.search(pattern)
            if found:
                self.numbered.setdefault(found[1], []).append(pattern)
            else:
                self.everywhere.append(pattern)

    def candidates(self, name: str) -> list[str]:
        """Those that may match ``name``."""
        found = self._NUMBER.search(name)
        return self.everywhere + (self.numbered.get(found[1], []) if found else [])


@lru_cache(maxsize=4096)
def wildcard(pattern: str) -> re.Pattern[str]:
    """A shell-style pattern, compiled."""
    return re.compile(translate(pattern))


@lru_cache(maxsize=1024)
def regex(pattern: str) -> re.Pattern[str] | None:
    """A checkpoint's regular expression, compiled; None where it is none, or far too long."""
    if len(pattern) > 10_000:
        return None
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return None


def matches(name: str, target: str) -> bool:
    """``is_equal_or_regex_match``: equal, or matching where the target begins with ``re:``."""
    if target.startswith("re:"):
        found = regex(target[3:])
        return found is not None and found.match(name) is not None
    return name == target


def matches_any(prefix: str, targets: Iterable[str]) -> bool:
    """Whether a layer, or every part of a merged one, is among the targets."""
    listed = list(targets)
    if any(matches(prefix, target) for target in listed):
        return True
    parts = parts_of(prefix)
    return len(parts) > 1 and all(any(matches(part, target) for target in listed) for part in parts)
