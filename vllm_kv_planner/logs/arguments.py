"""An engine's flags out of the line that lists them, and out of its config's line.

Source: vLLM ``entrypoints/common/startup.py`` ``log_non_default_args`` (0.10 on: a dictionary of
what is not default), ``entrypoints/openai/api_server.py`` (before: ``args: Namespace(…)``, all of
them), ``config/vllm.py`` ``VllmConfig.__str__`` (the config's line).
"""

from __future__ import annotations

import json
from typing import Any

from ..engine_args.engine_args import EngineArgs
from ..records import fields
from .values import ABSENT, named_values

FORMER_NAMES = {"model_tag": "model", "kv_cache_memory": "kv_cache_memory_bytes"}
"""Spellings of older versions, or of the command line."""
NOT_TAKEN = frozenset({"usage_context", "hf_config_path"})

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
    known = {each.name for each in fields(EngineArgs)} - NOT_TAKEN
    found: dict[str, Any] = {}
    for name, value in named_values(text).items():
        flag = FORMER_NAMES.get(name, name)
        if flag in known and value is not ABSENT and value is not None:
            found[flag] = _settled(flag, value)
    return found


def read_config_line(text: str) -> dict[str, Any]:
    """The flags that the engine's config has settled."""
    found: dict[str, Any] = {}
    for name, value in named_values(text).items():
        flag = CONFIG_LINE.get(name)
        if flag is not None and value is not ABSENT and value is not None:
            found[flag] = value.removeprefix("torch.") if isinstance(value, str) else value
    return found


def _settled(name: str, value: Any) -> Any:
    """JSON in quotes as what it says; lists as the tuples that ``EngineArgs`` holds."""
    if isinstance(value, str) and value[:1] in "{[" and name != "model":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return value
    return tuple(value) if isinstance(value, list) else value
