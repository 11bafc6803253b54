"""The planner's ``EngineArgs`` as keyword arguments of vLLM's own, and its environment."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from ..engine_args.engine_args import EngineArgs
from ..engine_args.environment import EngineEnvironment
from ..errors import UnsupportedError, printable
from .model_folder import without_code

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

CONFIG_OVERRIDES = ("hf_overrides", "mm_processor_kwargs", "speculative_config")
"""Arguments that end up in a model's own config or processor."""


def vllm_arguments(args: EngineArgs, folder: str) -> dict[str, Any]:
    """What was given: a field at its default is left to vLLM, whose defaults they are."""
    arguments: dict[str, Any] = {
        "model": folder,
        "skip_tokenizer_init": True,
        "trust_remote_code": False,
    }
    for field in fields(args):
        value = getattr(args, field.name)
        default = field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        if field.name not in _NOT_PASSED and value != default:
            check_no_code(field.name, value)
            arguments[field.name] = without_code(plain(value))
    return arguments


def check_no_code(flag: str, value: Any) -> None:
    """Refuse values for which vLLM imports a Python module of that name.

    Source: vLLM 0.33 ``kv_transfer/kv_connector/factory.py``, ``v1/kv_offload/factory.py``,
    ``config/compilation.py`` (``inductor_passes``, ``backend``),
    ``v1/spec_decode/custom_class_proposer.py``.

    Raises:
        UnsupportedError: It is one.
    """
    if flag == "spec_method":
        flag, value = "speculative_config", {"method": value}
    if isinstance(value, (list, tuple)):
        for item in value:
            check_no_code(flag, item)
    if not hasattr(value, "items"):
        return
    for key, item in value.items():
        names_code = (
            str(key).endswith("_module_path")
            or key == "inductor_passes"
            or (flag == "compilation_config" and key == "backend" and "." in str(item))
            or (flag == "speculative_config" and key == "method" and item == "custom_class")
        )
        if item and names_code:
            raise UnsupportedError(
                f"--{flag.replace('_', '-')}: {printable(str(key))} "
                f"{printable(str(item)[:80])!r} names Python code, which the planner does not run: "
                "plan without it"
            )
        check_no_code(flag, item)


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
