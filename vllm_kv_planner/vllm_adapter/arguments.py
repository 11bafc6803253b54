"""The planner's ``EngineArgs`` as keyword arguments of vLLM's own, and its environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from ..config.find import FoundConfig
from ..engine_args.engine_args import EngineArgs, EngineEnvironment
from ..errors import UnsupportedError, printable
from ..files.json_file import read_json_file

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


# Beside config.json: files from which vLLM takes lengths, pooling and defaults. All others (code,
# weights, whatever has another name) stay behind.
_SIDE_FILES = (
    "generation_config.json",
    "hf_quant_config.json",
    "modules.json",
    "preprocessor_config.json",
    "processor_config.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    os.path.join("1_Pooling", "config.json"),
)
_CODE = ("auto_map", "custom_pipelines", "custom_generate", "trust_remote_code")
"""Keys by which transformers and vLLM find Python files of a checkpoint, in whatever file."""


def write_model_folder(found: FoundConfig, root: str) -> tuple[str, dict[str, Any]]:
    """A folder under ``root`` with config.json and side files.

    Returns its path, and what the child must know about config classes of the checkpoint's own.
    The path ends in the model's id: vLLM tells some draft models by their name.

    Raises:
        ConfigError: A side file that is no JSON, or out of bounds.
    """
    names = [part for part in found.id.split("/") if part not in ("", ".", "..")][-2:]
    number = len(os.listdir(root))
    folder = os.path.join(root, str(number), *(name[:100] for name in names or ["model"]))
    os.makedirs(folder)
    config = without_code(found.config)
    _write(folder, "config.json", config)
    for name in _SIDE_FILES:
        if name in found.files:
            _write(folder, name, without_code(found.files[name]))
    if found.path is not None and os.path.basename(found.path) == "config.json":
        _copy_side_files(os.path.dirname(found.path), folder)
    auto_map = found.config.get("auto_map")
    names_code = isinstance(auto_map, Mapping) and "AutoConfig" in auto_map
    about = {key: config[key] for key in ("model_type", "max_position_embeddings") if key in config}
    return folder, {"config": about, "names_code": names_code}


def without_code(value: Any) -> Any:
    """A config that names no Python files: they are not handed over, nor run.

    An attention implementation with a slash is a repository of kernels, which transformers loads
    as code (5.x ``modeling_utils.py`` ``load_and_register_attn_kernel``).
    """
    if isinstance(value, Mapping):
        return {
            key: without_code(item)
            for key, item in value.items()
            if key not in _CODE and not _is_kernel_repository(key, item)
        }
    if isinstance(value, (list, tuple)):
        return [without_code(item) for item in value]
    return value


def _is_kernel_repository(key: object, value: object) -> bool:
    named = value.values() if isinstance(value, Mapping) else [value]
    return (
        isinstance(key, str)
        and "attn_implementation" in key
        and any(isinstance(each, str) and "/" in each for each in named)
    )


def _write(folder: str, name: str, content: Any) -> None:
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file)


def _copy_side_files(source: str, folder: str) -> None:
    for name in _SIDE_FILES:
        path = os.path.join(source, name)
        if os.path.lexists(path) and not os.path.exists(os.path.join(folder, name)):
            kind = list if name == "modules.json" else dict
            _write(folder, name, without_code(read_json_file(path, kind)))
