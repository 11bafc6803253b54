"""Find the config of the model a user names, and say where it was found.

A model is a folder, a config.json, or a Hub id. Places are asked in order and the first that
knows the model answers: the local path, the Hugging Face cache, the bundled presets, the Hub.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, InputError, UnknownNameError
from ..records import dataclass, field
from . import hf_cache, presets
from .json_file import printable, read_config_file, shown

# Beside config.json: where ModelOpt checkpoints before 0.31 keep their quantization config.
QUANT_FILE = "hf_quant_config.json"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9_][\w.+-]*(/[\w.+-]+)*", re.ASCII)
_TRUE = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads its variables


@dataclass(frozen=True)
class FoundConfig:
    """A model's config and where it came from.

    Attributes:
        id: The Hub id, or the path as given.
        config: The object in config.json. Not to be changed.
        source: ``local``, ``hf-cache``, ``bundled`` or ``hub``.
        revision: Commit hash where known.
        path: The file read; None for bundled and fetched configs.
        files: Side files present, by name, parsed: ``hf_quant_config.json``.
    """

    id: str
    config: Mapping[str, Any]
    source: str
    revision: str | None = None
    path: str | None = None
    files: Mapping[str, Any] = field(default_factory=dict)

    @property
    def with_quantization(self) -> Mapping[str, Any]:
        """The config, with the side file's quantization config where it states none itself.

        Source: vLLM 0.33 ``transformers_utils/config.py`` ``get_config``.
        """
        beside = self.files.get(QUANT_FILE)
        own = self.config.get("quantization_config")
        if beside is None or (own is not None and not _lacks_layers(own)):
            return self.config
        inner = beside.get("quantization") if isinstance(beside, Mapping) else None
        layers = inner.get("quantized_layers") if isinstance(inner, Mapping) else None
        kept = beside if own is None else own
        beside = kept if layers is None else {**kept, "quantized_layers": layers}
        return {**self.config, "quantization_config": beside}


def _lacks_layers(quantization: Any) -> bool:
    """Whether a ModelOpt config of mixed precision leaves its layers to the file beside it."""
    return (
        isinstance(quantization, Mapping)
        and quantization.get("quant_algo") == "MIXED_PRECISION"
        and "quantized_layers" not in quantization
    )


def find_config(
    reference: str, *, revision: str | None = None, offline: bool | None = None
) -> FoundConfig:
    """The config of the model that ``reference`` names.

    Args:
        reference: A folder with a config.json, a JSON file, a Hub id, or a short name.
        revision: Branch, tag or commit of a Hub repository; bundled presets stand for
            ``main`` (the default) alone.
        offline: Never ask the Hub. Default: what ``HF_HUB_OFFLINE`` or
            ``TRANSFORMERS_OFFLINE`` says.

    Raises:
        UnknownNameError: no place knows the model; names the nearest known ones.
        ConfigError: found but unreadable, gated, or the network did not answer.
    """
    found = _local(reference)
    if found:
        return found
    if len(reference) > 200 or not _HUB_ID.fullmatch(reference) or ".." in reference:
        raise UnknownNameError(
            f"{_shown(reference)} is neither a folder, a config.json nor a Hub id (ORG/NAME)"
        )
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ConfigError(f"--revision {_shown(revision)}: not a branch, tag or commit hash")
    # A repository may be cached under its former or short name too, so ask for both.
    name = presets.canonical_name(reference)
    found = _cached(reference, revision) or (_cached(name, revision) if name != reference else None)
    if found:
        return found
    if revision in (None, "main"):
        preset = presets.find_preset(reference)
        if preset:
            return FoundConfig(preset.id, preset.config, "bundled", files=preset.files)
    if _is_offline() if offline is None else offline:
        raise _unknown(name, "is not cached, and offline the Hub is not asked", revision)
    return _from_hub(name, revision)


def found_config(model: object, revision: object = None) -> FoundConfig:
    """The config of what the Python API takes for a model: a name, a path, or a config found.

    Raises:
        InputError: It is none of these.
    """
    if isinstance(model, FoundConfig):
        return model
    if isinstance(model, os.PathLike):
        model = os.fsdecode(model)
    if not isinstance(model, str):
        raise InputError(
            f"model: {shown(model)} is no Hub id, path of a folder or config.json, or FoundConfig"
        )
    if revision is not None and not isinstance(revision, str):
        raise InputError(f"--revision: {shown(revision)} is not text")
    return find_config(model, revision=revision)


def known_names() -> list[str]:
    """Ids of the bundled models, sorted."""
    return presets.known_names()


def _local(reference: str) -> FoundConfig | None:
    """The config at a local path; None when ``reference`` does not look or act like a path."""
    path = os.path.expanduser(reference)
    looks_local = reference.startswith(("/", "./", "../", "~", ".\\", "..\\")) or (
        reference in (".", "..") or reference.endswith((".json", os.sep))
    )
    # lexists: a dangling or circular link is the user's path all the same.
    if not looks_local and (not reference or "\0" in reference or not os.path.lexists(path)):
        return None
    if "\0" not in path and os.path.isdir(path):
        return _in_folder(path, reference, "local", None)
    if looks_local and "\0" not in path and not os.path.lexists(path):
        raise ConfigError(f"{_shown(reference)}: no such file or folder")
    return FoundConfig(reference, read_config_file(path), "local", path=path)


def _cached(name: str, revision: str | None) -> FoundConfig | None:
    snapshot = hf_cache.cached_snapshot(name, revision or "main")
    if snapshot is None or not os.path.lexists(os.path.join(snapshot[0], "config.json")):
        return None
    return _in_folder(snapshot[0], name, "hf-cache", snapshot[1])


def _in_folder(folder: str, name: str, source: str, revision: str | None) -> FoundConfig:
    path = os.path.join(folder, "config.json")
    if not os.path.lexists(path):
        if os.path.exists(os.path.join(folder, "params.json")):
            raise ConfigError(
                f"{_shown(name)}: holds params.json (Mistral's format) only; the planner needs "
                "the model's config.json beside it"
            )
        raise ConfigError(f"{_shown(name)}: the folder holds no config.json")
    config = read_config_file(path)
    files = {}
    side = os.path.join(folder, QUANT_FILE)
    if os.path.lexists(side):
        files[QUANT_FILE] = read_config_file(side)
    return FoundConfig(name, config, source, revision, path, files)


def _from_hub(name: str, revision: str | None) -> FoundConfig:
    # They import urllib: only where the network is needed.
    from . import hub
    from .exchange import model_deadline

    deadline = model_deadline()
    try:
        fetched = hub.fetch_json(name, revision or "main", "config.json", deadline=deadline)
    except hub.NotOnHub as error:
        raise _unknown(name, str(error)[len(name) + 1 :], revision) from None
    except hub.NoAnswer as error:
        raise ConfigError(f"{error}{_hint(name, revision)}") from None
    if fetched is None:
        raise ConfigError(f"{name}: the repository on the Hub holds no config.json")
    files = {}
    own = fetched.content.get("quantization_config")
    if own is None or _lacks_layers(own):
        at = fetched.commit or revision or "main"
        side = hub.fetch_json(name, at, QUANT_FILE, deadline=deadline, repo_known=True)
        if side:
            files[QUANT_FILE] = side.content
    return FoundConfig(name, fetched.content, "hub", fetched.commit, None, files)


def _is_offline() -> bool:
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in _TRUE for name in names)


def _unknown(name: str, why: str, revision: str | None) -> UnknownNameError:
    at = f" at revision {revision}" if revision else ""
    return UnknownNameError(f"{name}{at} {why}{_hint(name, revision)}")


def _hint(name: str, revision: str | None) -> str:
    from .nearest import nearest_models  # imports difflib: for this message only

    near = [] if revision else nearest_models(name)
    return f"; did you mean {' or '.join(near)}?" if near else "; give a folder or config.json"


def _shown(text: str) -> str:
    return printable(text if len(text) <= 100 else text[:100] + "…") or '""'
