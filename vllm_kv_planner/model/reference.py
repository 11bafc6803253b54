"""What people write for a model besides a path and a Hub id: addresses, object stores, GGUF."""

from __future__ import annotations

import os
import re

from ..errors import ConfigError, UnknownNameError
from .json_file import printable

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HUB_HOSTS = {"huggingface.co", "www.huggingface.co", "hf.co"}
_AT_REVISION = {"tree", "blob", "resolve", "raw", "commit"}
_GGUF = re.compile(r"(?<![a-z0-9])gguf(?![a-z0-9])", re.IGNORECASE)


def referred(text: str) -> tuple[str, str | None]:
    """The Hub id, or what else stands there, and the revision that an address names.

    ``https://huggingface.co/ORG/NAME/tree/REVISION`` and ``hf://ORG/NAME@REVISION`` are read.

    Raises:
        ConfigError: An object store, another host's address, or a GGUF file, which vLLM 0.33
            does not load.
    """
    scheme = _SCHEME.fullmatch(text)
    if scheme is None:
        check_no_gguf(text)
        # llama3.1:8b, Llama 3.1 8B
        return text if "/" in text else re.sub(r"[: ]+", "-", text.strip()), None
    kind, rest = scheme[1].lower(), scheme[2]
    if kind == "hf":
        name, _, revision = rest.partition("@")
        name, revision_of_path = name.removeprefix("models/"), revision or None
    elif kind in ("http", "https"):
        name, revision_of_path = _of_address(text, rest)
    else:
        raise ConfigError(
            f"{shown(text)}: {kind}:// is not read; give the model's Hub id, or a folder with its "
            "config.json"
        )
    check_no_gguf(name)
    return name.strip("/"), revision_of_path


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
    from urllib.parse import unquote, urlsplit

    host, _, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    hosts = {*_HUB_HOSTS, urlsplit(os.environ.get("HF_ENDPOINT") or "").netloc.lower()}
    parts = [unquote(part) for part in path.split("/") if part]
    parts = parts[1:] if parts[:1] == ["models"] else parts
    if host.lower() not in hosts or not parts or parts[0] in ("datasets", "spaces"):
        raise ConfigError(
            f"{shown(text)}: not the address of a model on the Hub; give the model's Hub id, or a "
            "folder with its config.json"
        )
    at = 1 if parts[1:2] and parts[1] in _AT_REVISION else 2
    if parts[at : at + 1] and parts[at] not in _AT_REVISION:
        raise UnknownNameError(f"{shown(text)}: not a page of a model on the Hub")
    return "/".join(parts[:at]), parts[at + 1] if len(parts) > at + 1 else None


def adapter_refusal(name: str, adapter: object) -> ConfigError:
    """Why a LoRA adapter is no model to plan, and the command that plans what it needs."""
    values = adapter if isinstance(adapter, dict) else {}
    base, rank = values.get("base_model_name_or_path"), values.get("r")
    known = isinstance(base, str) and base
    lora = "--enable-lora" + (
        f" --max-lora-rank {rank}" if isinstance(rank, int) and 0 < rank < 10_000 else ""
    )
    return ConfigError(
        f"{shown(name)} is a LoRA adapter, not a model: plan "
        f"{shown(base) if known else 'its base model'} with {lora}"
    )


def shown(text: object) -> str:
    """Part of a message: at most 100 characters, printable."""
    text = str(text)
    return printable(text if len(text) <= 100 else text[:100] + "…") or '""'
