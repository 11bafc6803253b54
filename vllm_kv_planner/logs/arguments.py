"""An engine's flags out of the line that lists them, and out of its config's line.

Source: vLLM ``entrypoints/common/startup.py`` ``log_non_default_args`` (0.10 on: a dictionary of
what is not default), ``entrypoints/openai/api_server.py`` (before: ``args: Namespace(…)``, all of
them), ``config/vllm.py`` ``VllmConfig.__str__`` (the config's line).
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from ..engine_args.engine_args import EngineArgs
from ..records import fields
from .values import ABSENT, named_values

FORMER_NAMES = {"model_tag": "model", "kv_cache_memory": "kv_cache_memory_bytes"}
"""Spellings of older versions, or of the command line."""
NOT_TAKEN = frozenset({"usage_context", "hf_config_path"})

MOST_TEXT = 1000
MOST_NUMBER = 1 << 60
"""Longer texts and larger numbers are no flags of an engine."""

CONFIG_LINE = {
    "model": "model",
    "dtype": "dtype",
    "max_seq_len": "max_model_len",
    "tensor_parallel_size": "tensor_parallel_size",
    "pipeline_parallel_size": "pipeline_parallel_size",
    "data_parallel_size": "data_parallel_size",
    "decode_context_parallel_size": "decode_context_parallel_size",
    "quantization": "quantization",
    "enforce_eager": "enforce_eager",
    "kv_cache_dtype": "kv_cache_dtype",
    "enable_prefix_caching": "enable_prefix_caching",
    "load_format": "load_format",
}
"""Names in the config's line, and the flags they settle."""


def read_arguments(text: str) -> dict[str, Any]:
    """Flags that ``text`` states, by ``EngineArgs``' names; what it does not know is left out."""
    found: dict[str, Any] = {}
    wanted = {*flag_kinds(), *FORMER_NAMES}
    for name, said in named_values(text, wanted).items():
        flag = FORMER_NAMES.get(name, name)
        value = settled(flag, said)
        if value is not ABSENT:
            found[flag] = value
    return found


def read_config_line(text: str) -> dict[str, Any]:
    """The flags that the engine's config has settled."""
    found: dict[str, Any] = {}
    for name, said in named_values(text, CONFIG_LINE).items():
        flag = CONFIG_LINE[name]
        value = settled(flag, said.removeprefix("torch.") if isinstance(said, str) else said)
        if value is not ABSENT:
            found[flag] = value
    return found


def settled(flag: str, value: Any) -> Any:
    """The value as ``EngineArgs`` holds it; ABSENT where that flag has no such value.

    JSON in quotes is what it says, a list the tuple that is kept.
    """
    kind = flag_kinds().get(flag)
    if kind is None or value is None or value is ABSENT:
        return ABSENT
    if "JsonDict" in kind:
        return _json_object(value)
    if "tuple[" in kind:
        item = int if "tuple[int" in kind else str
        fits = isinstance(value, (list, tuple)) and all(type(each) is item for each in value)
        return tuple(value) if fits else ABSENT
    if "str" in kind:
        # --optimization-level is a text here, and a number in some logs
        text = str(value) if type(value) is int else value
        return text if isinstance(text, str) and len(text) <= MOST_TEXT else ABSENT
    if "bool" in kind:
        return value if isinstance(value, bool) else ABSENT
    return _number(value, whole="float" not in kind)


@lru_cache(maxsize=1)
def flag_kinds() -> dict[str, str]:
    """What kind of value each flag takes: ``EngineArgs``' annotations."""
    known = {each.name for each in fields(EngineArgs)} - NOT_TAKEN
    return {name: kind for name, kind in EngineArgs.__annotations__.items() if name in known}


def _json_object(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return ABSENT
    return value if isinstance(value, dict) else ABSENT


def _number(value: Any, *, whole: bool) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ABSENT
    if whole and not isinstance(value, int):
        return ABSENT
    return value if abs(value) < MOST_NUMBER else ABSENT
