"""LoRA adapters: what ``adapter_config.json`` says of one, and where it is found.

Source: vLLM 0.33 ``lora/utils.py`` ``get_adapter_absolute_path``, ``lora/peft_helper.py``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..files.json_file import read_config_file
from . import hf_cache
from .found import ADAPTER_FILE
from .reference import check_no_gguf, referred, shown


def adapter_refusal(name: str, adapter: object) -> ConfigError:
    """Why a LoRA adapter is no model to plan, and the command that plans what it needs."""
    return ConfigError(f"{shown(name)} is a LoRA adapter, not a model: plan {_plan_of(adapter)}")


def adapter_note(adapter: object) -> str:
    """The note on a repository that has both, config.json and adapter_config.json."""
    return (
        f"{ADAPTER_FILE} stands beside config.json: where only the adapter's weights do, vLLM "
        f"loads no model from it; plan {_plan_of(adapter)}"
    )


def has_weights(folder: str) -> bool:
    """Whether weights besides an adapter's lie there."""
    return any(
        file.endswith((".safetensors", ".bin", ".pt")) and not file.startswith("adapter_")
        for file in os.listdir(folder)
    )


def _plan_of(adapter: object) -> str:
    values = adapter if isinstance(adapter, Mapping) else {}
    base, rank = values.get("base_model_name_or_path"), largest_rank(values)
    known = isinstance(base, str) and base
    lora = "--enable-lora" + (f" --max-lora-rank {rank}" if rank else "")
    return f"{shown(base) if known else 'its base model'} with {lora}"


def largest_rank(adapter: Mapping[str, Any]) -> int | None:
    """The rank that ``--max-lora-rank`` must allow; None where it is not stated as a number."""
    pattern = adapter.get("rank_pattern")
    ranks = [adapter.get("r"), *(pattern.values() if isinstance(pattern, Mapping) else ())]
    return max(
        (rank for rank in ranks if type(rank) is int and 0 < rank < 10_000),
        default=None,
    )


def find_adapter(reference: str, *, offline: bool) -> Mapping[str, Any] | None:
    """``adapter_config.json`` of a folder, or of a repository in the cache or on the Hub.

    Args:
        reference: A path, or a Hub id.
        offline: Never ask the Hub.

    Raises:
        ConfigError: It is there and not readable, or the folder is not.
    """
    path = os.path.expanduser(reference)
    if os.path.lexists(path):
        path = os.path.join(path, ADAPTER_FILE)
        if not os.path.lexists(path):
            raise ConfigError(f"{shown(reference)}: the folder holds no {ADAPTER_FILE}")
        return read_config_file(path)
    if os.path.isabs(path):
        return None  # of another machine
    check_no_gguf(reference)
    name, _ = referred(reference)
    snapshot = hf_cache.cached_snapshot(name, "main")
    cached = snapshot and os.path.join(snapshot[0], ADAPTER_FILE)
    if cached and os.path.lexists(cached):
        return read_config_file(cached)
    if offline or name.count("/") != 1:
        return None
    from . import hub

    try:
        found = hub.fetch_json(name, "main", ADAPTER_FILE)
    except (hub.NoAnswer, hub.NotOnHub):
        return None
    return found.content if found else None
