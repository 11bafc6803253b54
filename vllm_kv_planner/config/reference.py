"""What people write for a model besides a path and a Hub id: addresses, GGUF files, adapters.

Source: vLLM 0.33 ``lora/utils.py`` ``get_adapter_absolute_path``, ``lora/peft_helper.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, UnknownNameError, printable
from ..files.json_file import read_config_file
from . import hf_cache
from .found import ADAPTER_FILE

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HUB_HOSTS = {"huggingface.co", "www.huggingface.co", "hf.co", "hf-mirror.com"}
_AT_REVISION = {"tree", "blob", "resolve", "raw", "commit", "commits"}
_AT = re.compile(r"[^/\\]+/[^/\\@]+(@[^/\\]+|/(tree|blob|resolve|raw)/.+)")
_OTHER_PAGES = {"discussions", "settings", "community"}
_NOT_MODELS = {
    "datasets": "a data set",
    "spaces": "a Space",
    **dict.fromkeys(("collections", "papers", "docs", "blog", "learn", "posts"), "a page"),
}
_GGUF = re.compile(r"(?<![a-z0-9])gguf(?![a-z0-9])", re.IGNORECASE)


def referred(text: str) -> tuple[str, str | None]:
    """The Hub id, or what else stands there, and the revision that an address names.

    ``https://huggingface.co/ORG/NAME/tree/REVISION`` and ``hf://ORG/NAME@REVISION`` are read, with
    a slash at their end or without, and without what stands before ``ORG``.

    Raises:
        ConfigError: An object store, another host's address, a part of a repository, or a GGUF
            file, which vLLM 0.33 does not load.
    """
    scheme = _SCHEME.fullmatch(text)
    if scheme is None:
        check_no_gguf(text)
        host, _, path = text.partition("/")
        if host.lower() in _HUB_HOSTS:
            return _of_path(text, path)
        if _AT.fullmatch(text):
            return _of_path(text, text)
        # llama3.1:8b, Llama 3.1 8B
        name = text.strip().rstrip("/")
        return name if "/" in name else re.sub(r"[: ]+", "-", name), None
    kind, rest = scheme[1].lower(), scheme[2]
    if kind == "hf":
        name, revision = _of_path(text, rest)
    elif kind in ("http", "https"):
        name, revision = _of_address(text, rest)
    else:
        raise ConfigError(
            f"{shown(text)}: {kind}:// is not read; give the model's Hub id, or a folder with its "
            "config.json"
        )
    check_no_gguf(name)
    return name, revision


def is_address(text: str) -> bool:
    """Whether it names a repository on the Hub in more words than its id."""
    host = text.partition("/")[0].lower()
    return bool(_SCHEME.fullmatch(text) or _AT.fullmatch(text) or host in _HUB_HOSTS)


def check_no_gguf(name: str) -> None:
    """Refuse what is called GGUF.

    Raises:
        ConfigError: vLLM 0.33 loads no such file (``QUANTIZATION_METHODS`` has no gguf).
    """
    if _GGUF.search(name.replace("\\", "/").rstrip("/").rpartition("/")[2]):
        raise ConfigError(
            f"{shown(name)}: vLLM 0.33 loads no GGUF file; give the model that it was made from"
        )


def _of_address(text: str, rest: str) -> tuple[str, str | None]:
    """The repository and revision of a Hub page or file."""
    from urllib.parse import urlsplit

    host, _, path = rest.partition("/")
    if host.lower() not in {*_HUB_HOSTS, urlsplit(os.environ.get("HF_ENDPOINT") or "").netloc}:
        raise ConfigError(
            f"{shown(text)}: not the address of a model on the Hub; give the model's Hub id, or a "
            "folder with its config.json"
        )
    return _of_path(text, path)


def _of_path(text: str, path: str) -> tuple[str, str | None]:
    """The repository and revision of a path on the Hub.

    Raises:
        ConfigError: It is no model's, or that of a folder in a repository, where vLLM does not
            look.
    """
    from urllib.parse import unquote

    parts = [unquote(part) for part in re.split(r"[?#]", path, maxsplit=1)[0].split("/") if part]
    parts = parts[1:] if parts[:1] == ["api"] else parts
    parts = parts[1:] if parts[:1] == ["models"] else parts
    if not parts or parts[0] in _NOT_MODELS:
        what = _NOT_MODELS[parts[0]] if parts else "no model's page"
        raise ConfigError(f"{shown(text)}: {what}, not a model on the Hub; give the model's Hub id")
    at = 1 if parts[1:2] and parts[1] in _AT_REVISION else 2
    owner, _, name = "/".join(parts[:at]).rpartition("/")
    name, _, revision = name.partition("@")
    rest = parts[at:]
    if rest and rest[0] in _OTHER_PAGES:
        rest = []
    elif len(rest) > 1 and rest[0] in _AT_REVISION:
        length = 3 if rest[1] == "refs" else 1  # refs/pr/1
        revision, rest = "/".join(rest[1 : 1 + length]), rest[1 + length :]
    if rest and (len(rest) > 1 or "." not in rest[0]):
        raise UnknownNameError(
            f"{shown(text)}: {shown('/'.join(rest))} is not a page of a model; of a repository "
            "vLLM loads what stands at its top"
        )
    return f"{owner}/{name}".lstrip("/"), revision or None


def shown(text: object) -> str:
    """Part of a message: at most 100 characters, printable."""
    text = str(text)
    return printable(text if len(text) <= 100 else text[:100] + "…") or '""'


def adapter_refusal(name: str, adapter: object) -> ConfigError:
    """Why a LoRA adapter is no model to plan, and the command that plans what it needs."""
    return ConfigError(f"{shown(name)} is a LoRA adapter, not a model: plan {_plan_of(adapter)}")


def adapter_note(adapter: object) -> str:
    """The note on a repository that has both, config.json and adapter_config.json."""
    return (
        f"{ADAPTER_FILE} stands beside config.json: where only the adapter's weights do, vLLM "
        f"loads no model from it; plan {_plan_of(adapter)}"
    )


def has_weights(folder: str) -> bool:
    """Whether weights besides an adapter's lie there."""
    return any(
        file.endswith((".safetensors", ".bin", ".pt")) and not file.startswith("adapter_")
        for file in os.listdir(folder)
    )


def _plan_of(adapter: object) -> str:
    values = adapter if isinstance(adapter, Mapping) else {}
    base, rank = values.get("base_model_name_or_path"), largest_rank(values)
    known = isinstance(base, str) and base
    lora = "--enable-lora" + (f" --max-lora-rank {rank}" if rank else "")
    return f"{shown(base) if known else 'its base model'} with {lora}"


def largest_rank(adapter: Mapping[str, Any]) -> int | None:
    """The rank that ``--max-lora-rank`` must allow; None where it is not stated as a number."""
    pattern = adapter.get("rank_pattern")
    ranks = [adapter.get("r"), *(pattern.values() if isinstance(pattern, Mapping) else ())]
    return max(
        (rank for rank in ranks if type(rank) is int and 0 < rank < 10_000),
        default=None,
    )


def find_adapter(reference: str, *, offline: bool) -> Mapping[str, Any] | None:
    """``adapter_config.json`` of a folder, or of a repository in the cache or on the Hub.

    Raises:
        ConfigError: It is there and not readable, or the folder is not.
    """
    path = os.path.expanduser(reference)
    if os.path.lexists(path):
        path = os.path.join(path, ADAPTER_FILE)
        if not os.path.lexists(path):
            raise ConfigError(f"{shown(reference)}: the folder holds no {ADAPTER_FILE}")
        return read_config_file(path)
    if os.path.isabs(path):
        return None  # of another machine
    check_no_gguf(reference)
    name, _ = referred(reference)
    snapshot = hf_cache.cached_snapshot(name, "main")
    cached = snapshot and os.path.join(snapshot[0], ADAPTER_FILE)
    if cached and os.path.lexists(cached):
        return read_config_file(cached)
    if offline or name.count("/") != 1:
        return None
    from . import hub

    try:
        found = hub.fetch_json(name, "main", ADAPTER_FILE)
    except (hub.NoAnswer, hub.NotOnHub):
        return None
    return found.content if found else None
