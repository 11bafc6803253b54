"""Find the config of the model a user names, and say where it was found.

A model is a folder, a config.json, a Hub id or address, or a name that people use for one.
Places are asked in order and the first that knows the model answers: the local path, the Hugging
Face cache, a bundled copy that two sources confirm, the Hub, any other bundled config. With
``--revision`` the Hub is always asked, and bundled copies stand for ``main`` alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from ..errors import ConfigError, InputError, UnknownNameError
from ..files.json_file import read_config_file
from ..files.json_file import shown as shown_value
from ..records import replace
from . import hf_cache, presets
from .found import (
    ADAPTER_FILE,
    PARAMS_FILE,
    QUANT_FILE,
    FoundConfig,
    config_of_params,
    named_quantization,
    needs_quant_file,
    note_of,
)
from .reference import (
    adapter_note,
    adapter_refusal,
    check_no_gguf,
    has_weights,
    is_address,
    referred,
    shown,
)

__all__ = ["FoundConfig", "find_config", "found_config", "is_offline"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_PATH = re.compile(r"[/~]|\.{1,2}[/\\]|\.{1,2}$|[A-Za-z]:[/\\]|\\\\")
"""How a path begins, of Windows too."""
_REVISION = re.compile(r"[A-Za-z0-9_][\w.+-]*(/[\w.+-]+)*", re.ASCII)
_TRUE = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads its variables
_BUNDLED = {"one": "bundled-one-source", "derived": "bundled-derived"}
_SURE = {
    "agreed": "two sources agree on its sizes",
    "one": "a copy of one source",
    "derived": "entered by hand, corrected or rebuilt",
}


def find_config(
    reference: str, *, revision: str | None = None, offline: bool | None = None
) -> FoundConfig:
    """The config of the model that ``reference`` names.

    Args:
        reference: A folder with a config.json, a JSON file, a Hub id, an address on the Hub, or
            a name that people use for a bundled model.
        revision: Branch, tag or commit of a Hub repository; bundled presets stand for
            ``main`` (the default) alone.
        offline: Never ask the Hub. Default: what ``HF_HUB_OFFLINE`` or
            ``TRANSFORMERS_OFFLINE`` says.

    Raises:
        UnknownNameError: no place knows the model, or several have the name; names the nearest.
        ConfigError: found but unreadable, gated, or the network did not answer.
    """
    found = _local(reference)
    if found:
        return found
    typed, of_address = referred(reference)
    if len(typed) > 200 or not _HUB_ID.fullmatch(typed) or ".." in typed:
        raise UnknownNameError(
            f"{shown(reference)} is neither a folder, a config.json nor a Hub id (ORG/NAME)"
        )
    if revision is not None and of_address not in (None, revision):
        raise ConfigError(f"--revision {shown(revision)}, but the address names {of_address}")
    revision = of_address if revision is None else revision
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ConfigError(f"--revision {shown(revision)}: not a branch, tag or commit hash")
    name = presets.canonical_name(typed)
    if "/" not in name:
        name = _other_spelling(name) or name
    found = _on_disk_or_hub(typed, name, revision, is_offline() if offline is None else offline)
    if of_address not in (None, "main"):
        said = f"the address names {of_address}: vLLM takes it as --revision {of_address}"
        found = replace(found, notes=(said, *found.notes))
    if not presets.is_id_of(typed, found.id):
        said = f"{shown(typed)} is planned as {found.id}, its name on the Hub"
        found = replace(found, notes=(said, *found.notes))
    return found


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
            f"model: {shown_value(model)} is no Hub id, path of a folder or config.json, or "
            "FoundConfig"
        )
    if revision is not None and not isinstance(revision, str):
        raise InputError(f"--revision: {shown_value(revision)} is not text")
    return find_config(model, revision=revision)


def _on_disk_or_hub(typed: str, name: str, revision: str | None, offline: bool) -> FoundConfig:
    """The config from the cache, the presets or the Hub, in the order of the module's docstring.

    ``typed`` is as the user wrote it: a repository may be cached under its former or short name.
    """
    cached = _cached(typed, revision) or (_cached(name, revision) if name != typed else None)
    if cached and (offline or revision is None or hf_cache.is_commit(revision)):
        return cached if offline else _completed(cached)
    preset = presets.find_preset(name) if revision in (None, "main") else None
    if preset and revision is None and preset.certainty == "confirmed":
        return FoundConfig(preset.id, preset.config, "bundled", files=preset.files)
    try:
        return _from_hub(name, revision, cached, offline=offline, has_other=preset is not None)
    except _NotThere as refused:
        if cached:
            return replace(cached, notes=(f"the copy in the cache is planned: {refused}",))
        if preset:
            return _bundled(preset, str(refused))
        is_main = revision in (None, "main")
        other = _other_spelling(name) if is_main and refused.may_be_misspelt else None
        if other is None:
            raise refused.error() from None
    return _on_disk_or_hub(other, other, revision, offline)


class _NotThere(Exception):
    """The Hub has no such model, or could not be asked.

    ``error`` makes what is raised where nothing else knows the model: naming the nearest takes a
    hundred times as long as finding a preset.
    """

    def __init__(self, why: str, error: Callable[[], InputError], *, may_be_misspelt: bool) -> None:
        super().__init__(why)
        self.error = error
        self.may_be_misspelt = may_be_misspelt


def _from_hub(
    name: str, revision: str | None, cached: FoundConfig | None, *, offline: bool, has_other: bool
) -> FoundConfig:
    """What the Hub says.

    Raises:
        _NotThere: Nothing, or nothing that could be used.
    """
    if offline:
        why = "is not cached, and offline the Hub is not asked"
        raise _NotThere(
            "offline, the Hub was not asked",
            lambda: _unknown(name, why, revision),
            may_be_misspelt=True,
        )
    from . import hub, online

    stands_in = has_other or cached is not None
    silence = online.silence() if stands_in else None
    if silence:
        raise _NotThere(silence, lambda: ConfigError(silence), may_be_misspelt=False)
    try:
        return online.ask(name, revision, cached)
    except hub.NotOnHub as caught:
        said = str(caught)
        raise _NotThere(
            said, lambda: _unknown(name, said[len(name) + 1 :], revision), may_be_misspelt=True
        ) from None
    except hub.NoAnswer as caught:
        said = str(caught)
        raise _NotThere(
            online.silence() or "",
            lambda: ConfigError(f"{said}{_hint(name, revision)}"),
            may_be_misspelt=True,
        ) from None
    except ConfigError as caught:
        refusal = caught
        raise _NotThere(str(caught), lambda: refusal, may_be_misspelt=False) from None


def _bundled(preset: presets.Preset, why: str) -> FoundConfig:
    """A bundled config that stands in for the one on the Hub, and says so."""
    source = _BUNDLED.get(preset.certainty, "bundled")
    note: tuple[str, ...] = ()
    if preset.certainty in _SURE:
        note = (f"{preset.id}: bundled config, {_SURE[preset.certainty]}; {why}",)
    return FoundConfig(preset.id, preset.config, source, files=preset.files, notes=note)


def _other_spelling(name: str) -> str | None:
    """The one bundled model that people mean by ``name``; None where there is none."""
    found = presets.meant_by(name)
    if len(found) > 1:
        raise UnknownNameError(f"{shown(name)} is not one model: {' or '.join(found[:6])}?")
    return found[0] if found else None


def _local(reference: str) -> FoundConfig | None:
    """The config at a local path; None when ``reference`` does not look or act like a path."""
    path = os.path.expanduser(reference)
    if "://" in reference:
        return None
    is_file = reference.endswith(".json") and not is_address(reference)
    looks_local = is_file or _PATH.match(reference) is not None
    # lexists: a dangling or circular link is the user's path all the same.
    if not looks_local and (not reference or "\0" in reference or not os.path.lexists(path)):
        return None
    if "\0" not in path and os.path.isdir(path):
        return _in_folder(path, reference, "local", None)
    if looks_local and "\0" not in path and not os.path.lexists(path):
        raise ConfigError(f"{shown(reference)}: no such file or folder")
    check_no_gguf(reference)
    return FoundConfig(reference, read_config_file(path), "local", path=path)


def _cached(name: str, revision: str | None) -> FoundConfig | None:
    snapshot = hf_cache.cached_snapshot(name, revision or "main")
    if snapshot is None or not any(
        os.path.lexists(os.path.join(snapshot[0], file)) for file in ("config.json", PARAMS_FILE)
    ):
        return None
    return _in_folder(snapshot[0], name, "hf-cache", snapshot[1])


def _completed(cached: FoundConfig) -> FoundConfig:
    """With the quantization file that its name promises and whoever filled the cache left out."""
    if QUANT_FILE in cached.files or not needs_quant_file(cached.config) or cached.revision is None:
        return cached
    if named_quantization(cached.id, cached.config) is None:
        return cached
    from . import online

    try:
        side = online.quant_file(cached.id, cached.revision)
    except ConfigError:
        return cached  # whose plan says what it lacks
    return replace(cached, files={**cached.files, QUANT_FILE: side}) if side else cached


def _in_folder(folder: str, name: str, source: str, revision: str | None) -> FoundConfig:
    path = os.path.join(folder, "config.json")
    files = {}
    for side_file in (QUANT_FILE, ADAPTER_FILE):
        side = os.path.join(folder, side_file)
        if os.path.lexists(side):
            files[side_file] = read_config_file(side)
    if not os.path.lexists(path):
        if ADAPTER_FILE in files:
            raise adapter_refusal(name, files[ADAPTER_FILE])
        path = os.path.join(folder, PARAMS_FILE)
        if os.path.exists(path):
            params = read_config_file(path)
            config = config_of_params(params, shown(name))
            return FoundConfig(name, config, source, revision, path, files, (note_of(params),))
        with_gguf = [file for file in os.listdir(folder) if file.lower().endswith(".gguf")]
        if with_gguf:
            check_no_gguf(with_gguf[0])
        raise ConfigError(f"{shown(name)}: the folder holds no config.json")
    lone = ADAPTER_FILE in files and not has_weights(folder)
    notes = (adapter_note(files[ADAPTER_FILE]),) if lone else ()
    return FoundConfig(name, read_config_file(path), source, revision, path, files, notes)


def is_offline() -> bool:
    """Whether the environment says never to ask the Hub, as ``huggingface_hub`` reads it."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in _TRUE for name in names)


def _unknown(name: str, why: str, revision: str | None) -> UnknownNameError:
    at = f" at revision {revision}" if revision else ""
    return UnknownNameError(f"{name}{at} {why}{_hint(name, revision)}")


def _hint(name: str, revision: str | None) -> str:
    near = [] if revision else presets.nearest_models(name)
    return f"; did you mean {' or '.join(near)}?" if near else "; give a folder or config.json"
