"""Hand a model's config to the child as a folder of its own, with no code in it."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

from ..model.find import FoundConfig

# Beside config.json: files from which vLLM takes lengths, pooling and defaults.
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
_LARGEST = 8 << 20


def write_model_folder(found: FoundConfig, root: str) -> tuple[str, dict[str, Any]]:
    """A folder under ``root`` with config.json and side files.

    Returns its path, and what the child must know about config classes of the checkpoint's own.
    The path ends in the model's id: vLLM tells some draft models by their name.
    """
    names = [part for part in found.id.split("/") if part not in ("", ".", "..")][-2:]
    number = len(os.listdir(root))
    folder = os.path.join(root, str(number), *(name[:100] for name in names or ["model"]))
    os.makedirs(folder)
    config = without_code(found.config)
    _write(folder, "config.json", config)
    for name, content in found.files.items():
        _write(folder, name, without_code(content))
    if found.path is not None and os.path.basename(found.path) == "config.json":
        _copy_side_files(os.path.dirname(found.path), folder)
    names_code = "AutoConfig" in (found.config.get("auto_map") or {})
    about = {key: config[key] for key in ("model_type", "max_position_embeddings") if key in config}
    return folder, {"config": about, "names_code": names_code}


def without_code(value: Any) -> Any:
    """A config that names no Python files (``auto_map``): they are not handed over, nor run."""
    if isinstance(value, dict):
        return {key: without_code(item) for key, item in value.items() if key != "auto_map"}
    if isinstance(value, (list, tuple)):
        return [without_code(item) for item in value]
    return value


def _write(folder: str, name: str, content: Any) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(content, file)


def _copy_side_files(source: str, folder: str) -> None:
    for name in _SIDE_FILES:
        path, copy = os.path.join(source, name), os.path.join(folder, name)
        if os.path.isfile(path) and not os.path.exists(copy) and os.path.getsize(path) <= _LARGEST:
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copyfile(path, copy)
