"""A quantisation that a model's name promises and its config does not state.

Checkpoints of NVIDIA's ModelOpt state it in ``hf_quant_config.json`` beside config.json alone, and
a config from elsewhere may come without that file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NAMED = re.compile(
    r"(?<![a-z0-9])"
    r"(nvfp4|mxfp4|mxfp8|fp8|fp4|awq|gptq|int4|int8|w4a16|w8a16|w8a8|w4a8|w4a4)"
    r"(?![a-z0-9])",
    re.IGNORECASE,
)
_SIDE_FILE = "hf_quant_config.json"
_KEYS = ("quantization_config", "compression_config")


def named_quantization(name: str, config: Mapping[str, Any]) -> str | None:
    """What the model's name says of its weights where nothing else does.

    Args:
        name: The Hub id, or a path.
        config: config.json, with what the side file states.
    """
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", "config.json")]
    found = _NAMED.search(parts[-1]) if parts else None
    if found is None or any(_states(part) for part in (config, config.get("text_config"))):
        return None
    return found[1].upper()


def _states(part: Any) -> bool:
    """Whether vLLM finds a method in it: a config without one loads as unquantised."""
    if not isinstance(part, Mapping):
        return False
    for key in _KEYS:
        stated = part.get(key)
        if isinstance(stated, Mapping):
            return bool(stated.get("quant_method") or stated.get("quantization"))
    return False


def planned_without(named: str, config: Mapping[str, Any], dtype: str | None) -> str:
    """The note for the reader of the plan."""
    said = "states no quantisation"
    if any(config.get(key) for key in _KEYS):
        said = "states no quant_method, without which vLLM 0.33 loads it as unquantised"
    return (
        f"the model's name says {named} but its config {said}: unless --quantization says "
        f"otherwise, weights and KV cache are planned as {dtype or 'unquantised'}; give the "
        f"model's own directory, with {_SIDE_FILE} where it has one"
    )


def weights_unknown(named: str) -> str:
    """Why its weights are not predicted."""
    return (
        f"the model's name says {named} but neither its config nor {_SIDE_FILE} states a "
        f"quantisation, so its weights are not known: give the model's own directory, "
        f"with {_SIDE_FILE}"
    )
