"""Hand a model's config to the child as a folder of its own, with no code in it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ..config.find import FoundConfig
from ..files.json_file import read_json_file

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
