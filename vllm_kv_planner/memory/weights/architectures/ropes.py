"""The rotary cache of an attention layer, from what the config says of rope.

Source: vLLM 0.33 ``layers/rotary_embedding/__init__.py`` ``get_rope`` and the classes it picks;
``transformers_utils/config.py`` ``patch_rope_parameters``; transformers 5.20
``modeling_rope_utils.py`` ``standardize_rope_params``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ....model.config import Config
from ..modules import Rotary
from .facts import Facts

_SAME_LENGTH = frozenset({"default", "llama3", "dynamic", "ntk", "proportional", "mrope", ""})


def rope_parameters(text: Config, layer_type: str | None = None) -> Mapping[str, Any]:
    """``rope_parameters`` of the config, of one type of layer where it has several."""
    found: Mapping[str, Any] | None = None
    for key in ("rope_parameters", "rope_scaling"):
        value = text.get(key)
        if isinstance(value, Mapping):
            found = value
            break
    if found is None:
        return {}
    if any(isinstance(value, Mapping) for value in found.values()):
        own = found.get(layer_type or "full_attention")
        return own if isinstance(own, Mapping) else {}
    return found


def rotary(
    facts: Facts,
    head_size: int,
    *,
    layer_type: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    max_position: int | None = None,
    width: int | None = None,
    deepseek: bool = False,
    dtype: str | None = None,
    variant: str = "",
    name: str = "rotary_emb",
) -> Rotary:
    """The cache of one kind of layer.

    Args:
        facts: The model.
        head_size: What ``partial_rotary_factor`` takes a part of.
        layer_type: Whose parameters, where layers differ.
        parameters: Instead of the config's.
        max_position: Instead of the config's ``max_position_embeddings``.
        width: Instead of the part of ``head_size``.
        deepseek: The class keeps to ``original_max_position_embeddings`` times ``factor``.
        dtype: Of the cache, where it is not the engine's.
        variant: Tells ropes of equal size apart.
        name: As vLLM names the layer.
    """
    text = facts.text
    given = rope_parameters(text, layer_type) if parameters is None else parameters
    kind = str(given.get("rope_type") or given.get("type") or "default")
    limit = max_position or text.int("max_position_embeddings", "max_sequence_length", default=8192)
    if width is None:
        width = _width(facts, given, head_size)
    original = int(given.get("original_max_position_embeddings") or limit)
    factor = float(given.get("factor") or 1.0)
    rows = limit
    if "mrope_section" in given:
        rows = (original if kind == "yarn" else limit) * int(facts.options.get("mrope_factor", 4))
        if kind == "yarn":
            rows = math.ceil(rows * factor)
    elif kind == "yarn" or (deepseek and kind not in _SAME_LENGTH):
        rows = math.ceil(original * factor)
    elif kind == "linear":
        rows = math.ceil(limit * factor)
    elif kind in ("longrope", "su"):
        original = int(
            given.get("original_max_position_embeddings")
            or text.int("original_max_position_embeddings", default=limit)
        )
        rows = limit + original
    return Rotary(rows=rows, width=width, dtype=dtype, variant=variant, name=name)


def _width(facts: Facts, given: Mapping[str, Any], head_size: int) -> int:
    if given.get("rope_dim"):
        return int(given["rope_dim"])
    stated = facts.text.opt_int("rotary_dim")
    if stated is not None:
        return stated
    share = given.get("partial_rotary_factor")
    if share is None:
        share = facts.text.get("partial_rotary_factor", "rotary_pct", "rotary_emb_fraction")
    if share is None:
        share = facts.options.get("partial_rotary", 1.0)
    return int(head_size * float(share))
