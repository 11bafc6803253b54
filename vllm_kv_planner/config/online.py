"""Ask the Hub for a model's config, and keep the answer in the Hugging Face cache.

One request for config.json, with the tag of the copy at hand where there is one, one for
adapter_config.json, and one for the quantization file where vLLM would look for it. Within one
process nothing is asked twice, and a Hub that did not answer is not asked again where a bundled
config can stand in.
"""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError
from ..files.json_file import MAX_FILE_BYTES, read_regular_file
from . import hf_cache, hub
from .exchange import Deadline, model_deadline
from .found import (
    ADAPTER_FILE,
    PARAMS_FILE,
    QUANT_FILE,
    FoundConfig,
    config_of_params,
    needs_quant_file,
    note_of,
)
from .reference import adapter_note, adapter_refusal

_MOST_ANSWERS = 64
_answers: dict[tuple[str, str, str], FoundConfig] = {}
_silent: dict[str, str] = {}


def silence() -> str | None:
    """Why the Hub did not answer when it was asked last; None where it did, or was not asked."""
    return _silent.get(hub.endpoint())


def ask(name: str, revision: str | None, cached: FoundConfig | None = None) -> FoundConfig:
    """The config of ``name`` on the Hub; ``cached`` where the Hub says that it still holds.

    Raises:
        NotOnHub, NoAnswer, ConfigError: As ``hub.fetch_json``; the repository holds no config.
    """
    asked = revision or "main"
    key = (hub.endpoint(), name, asked)
    if key not in _answers:
        if len(_answers) >= _MOST_ANSWERS:
            _answers.clear()
        try:
            _answers[key] = _ask(name, asked, cached)
        except hub.NoAnswer as error:
            said = str(error).removeprefix(f"{name}'s config.json on the Hub: ")
            _silent[key[0]] = said
            raise
        _silent.pop(key[0], None)
    return _answers[key]


def forget() -> None:
    """Ask anew what was answered, or not answered, in this process."""
    _answers.clear()
    _silent.clear()


def quant_file(name: str, commit: str) -> dict[str, Any] | None:
    """The quantization file beside a cached config that may have been fetched without it."""
    if silence() or hf_cache.lacks(name, commit, QUANT_FILE):
        return None
    try:
        return _side_file(name, commit, commit, QUANT_FILE, model_deadline())
    except hub.NoAnswer as error:
        _silent[hub.endpoint()] = str(error).rpartition(" on the Hub: ")[2]
        return None


def _ask(name: str, revision: str, cached: FoundConfig | None) -> FoundConfig:
    deadline = model_deadline()
    found = hub.fetch_json(name, revision, "config.json", deadline=deadline, etag=_tag_of(cached))
    if found is None:
        params = _side_file(name, revision, None, PARAMS_FILE, deadline)
        if params is not None:
            config = config_of_params(params, name)
            return FoundConfig(name, config, "hub", None, None, {}, (note_of(params),))
        adapter = _side_file(name, revision, None, ADAPTER_FILE, deadline)
        if adapter is not None:
            raise adapter_refusal(name, adapter)
        raise ConfigError(f"{name}: the repository on the Hub holds no config.json")
    if cached is not None and not found.fetched.changed:
        return cached
    commit = found.fetched.commit
    if commit:
        hf_cache.keep(name, revision, commit, "config.json", found.fetched.raw)
    files = {}
    for file in (*([QUANT_FILE] if needs_quant_file(found.content) else ()), ADAPTER_FILE):
        side = _side_file(name, commit or revision, commit, file, deadline)
        if side is not None:
            files[file] = side
    notes = (adapter_note(files[ADAPTER_FILE]),) if ADAPTER_FILE in files else ()
    return FoundConfig(name, found.content, "hub", commit, None, files, notes)


def _side_file(
    name: str, revision: str, commit: str | None, filename: str, deadline: Deadline
) -> dict[str, Any] | None:
    found = hub.fetch_json(name, revision, filename, deadline=deadline, repo_known=True)
    if commit:
        hf_cache.keep(name, commit, commit, filename, found.fetched.raw if found else None)
    return found.content if found else None


def _tag_of(cached: FoundConfig | None) -> str | None:
    if cached is None or cached.path is None:
        return None
    try:
        raw = read_regular_file(cached.path, MAX_FILE_BYTES)
    except OSError:
        return None
    return None if raw is None else hf_cache.blob_tag(raw)
