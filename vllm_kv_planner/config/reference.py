"""What people write for a model besides a path and a Hub id: addresses, object stores, GGUF."""

from __future__ import annotations

import os
import re

from ..errors import ConfigError, UnknownNameError
from ..files.json_file import printable

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
