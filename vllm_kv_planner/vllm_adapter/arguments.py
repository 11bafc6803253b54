"""The planner's ``EngineArgs`` as keyword arguments of vLLM's own, and its environment."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from ..engine_args.engine_args import EngineArgs
from ..engine_args.environment import EngineEnvironment

# Told to vLLM in other ways: the folder that holds the model, and who uses the engine.
_NOT_PASSED = {"model", "revision", "hf_config_path", "usage_context"}

HANDED_OVER: dict[str, Any] = {
    # The folder holds a config and no tokenizer.
    "skip_tokenizer_init": True,
    "tokenizer": None,
    "revision": None,
    "tokenizer_revision": None,
    "code_revision": None,
    "hf_config_path": None,
    "served_model_name": None,
}


def vllm_arguments(args: EngineArgs, folder: str) -> dict[str, Any]:
    """What was given: a field at its default is left to vLLM, whose defaults they are."""
    # With trust_remote_code vLLM does not ask for it where a model type usually brings code; the
    # folder holds none.
    arguments: dict[str, Any] = {
        "model": folder,
        "skip_tokenizer_init": True,
        "trust_remote_code": True,
    }
    for field in fields(args):
        value = getattr(args, field.name)
        default = field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        if field.name not in _NOT_PASSED and value != default:
            arguments[field.name] = plain(value)
    return arguments


def plain(value: Any) -> Any:
    """Tuples as lists and mappings as dictionaries, for JSON."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "items"):
        return {key: plain(item) for key, item in value.items()}
    return value


def variables(environment: EngineEnvironment | None) -> dict[str, str | None]:
    """vLLM's environment variables as a pasted command set them; None unsets one."""
    if environment is None:
        return {}
    flags: dict[str, bool | None] = {
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN": environment.allow_long_max_model_len or None,
        "VLLM_USE_V2_MODEL_RUNNER": environment.use_v2_model_runner,
        "VLLM_MLA_DISABLE": environment.mla_disable or None,
        "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE": (
            environment.allow_chunked_local_attn_with_hybrid_kv_cache
        ),
    }
    read: dict[str, str | None] = {
        name: None if value is None else str(int(value)) for name, value in flags.items()
    }
    read["VLLM_PP_LAYER_PARTITION"] = environment.pp_layer_partition
    return read
