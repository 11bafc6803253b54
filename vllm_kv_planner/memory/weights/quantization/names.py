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
from .patterns import MAX_WILDCARDS, Patterns, bounded

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

_OTHER_ROOT = ("backbone.", "model.")
"""Nemotron-H's name for what vLLM calls model."""


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
    rules = _RENAMED if is_composite else (_OTHER_ROOT,)
    return [
        next((new + name[len(old) :] for old, new in rules if name.startswith(old)), name)
        for name in names
    ]


def parts_of(prefix: str) -> list[str]:
    """The checkpoint's layers behind one of vLLM's; the layer itself where it is not merged."""
    last = prefix.rpartition(".")[2]
    return [prefix.replace(last, part) for part in PACKED.get(last, (last,))]


class SkippedLayers:
    """``is_layer_skipped`` in its exact mode: layers listed by name.

    A merged layer counts as skipped when its parts are; experts when any listed expert's name
    begins with theirs.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        self.experts = ByLayerNumber(name for name in self.names if "experts" in name)

    def __contains__(self, prefix: str) -> bool:
        last = prefix.rpartition(".")[2]
        if last in PACKED:
            return prefix in self.names or all(part in self.names for part in parts_of(prefix))
        if "experts" in prefix:
            return any(prefix in name for name in self.experts.candidates(prefix))
        return prefix in self.names


class ByLayerNumber:
    """Names sorted by the layer number in them, so that few are tried for each layer.

    Raises:
        UnsupportedError: More name no layer than any checkpoint's do.
    """

    _NUMBER = re.compile(r"(?:^|\.)(?:layers?|blocks?|h)\.(\d+)\.")

    def __init__(self, names: Iterable[str]) -> None:
        everywhere: list[str] = []
        self.numbered: dict[str, list[str]] = {}
        for name in names:
            found = self._NUMBER.search(name)
            if found:
                self.numbered.setdefault(found[1], []).append(name)
            else:
                everywhere.append(name)
        self.everywhere = bounded(everywhere, "names of modules in no layer")

    def candidates(self, name: str) -> list[str]:
        """Those that may match ``name``."""
        found = self._NUMBER.search(name)
        if found is None:
            return self.everywhere
        return self.everywhere + self.numbered.get(found[1], [])


class Parts:
    """Parts of names, and shell-style patterns: what a name holds or matches.

    Attributes:
        has_wildcards: Names with a ``*`` are patterns too.
    """

    def __init__(self, names: Iterable[str], *, has_wildcards: bool = False) -> None:
        found = list(names)
        self.parts = ByLayerNumber(found)
        if has_wildcards:
            bounded((name for name in found if "*" in name), "wildcards", most=MAX_WILDCARDS)
        self.has_wildcards = has_wildcards
        self._known: dict[str, bool] = {}

    def match(self, *names: str) -> bool:
        """Whether any of the names of one layer holds a part; the first one may match a pattern."""
        name = names[0]
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = any(
                any(part in each for each in names)
                or (self.has_wildcards and "*" in part and wildcard(part).match(name) is not None)
                for part in self.parts.candidates(name)
            )
        return known


@lru_cache(maxsize=4096)
def wildcard(pattern: str) -> re.Pattern[str]:
    """A shell-style pattern, compiled."""
    return re.compile(translate(pattern))


class Targets:
    """``is_equal_or_regex_match``: names, and regular expressions after ``re:``.

    Raises:
        UnsupportedError: Too many expressions, or one that may take far too long.
    """

    def __init__(self, targets: Iterable[str]) -> None:
        found = list(targets)
        self.names = frozenset(found)
        self.patterns = Patterns(
            (each.removeprefix("re:") for each in found if each.startswith("re:")),
            "expressions of layer names",
        )

    def __contains__(self, prefix: str) -> bool:
        """Whether a layer, or every part of a merged one, is among the targets."""
        if self._has(prefix):
            return True
        parts = parts_of(prefix)
        return len(parts) > 1 and all(self._has(part) for part in parts)

    def _has(self, name: str) -> bool:
        return name in self.names or self.patterns.first(name) is not None
