"""What a checkpoint holds: tensors named in the headers of its safetensors files.

A header is JSON before the data: only it is read, of a local file or by range request from the
Hub. It comes from a stranger, so everything in it is checked; whatever is wrong becomes one
``ConfigError`` line.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ...errors import ConfigError, printable
from ...files.json_file import shown
from ...records import dataclass, field
from .safetensors_header import (
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    CheckpointTensor,
    data_bytes,
    header_length,
    parse_header,
)

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
MAX_FILES = 1000
_FIRST_BYTES = 128 * 1024  # most headers are shorter: one read a file
_MAX_OTHER_VALUES = 1000  # of an index, beside names of tensors and files

TORCH_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""What vLLM calls the floating-point ones."""

Reader = Callable[[str, int, int], "bytes | None"]
"""Reads bytes of a file: its name, where they begin, how many; None where there is no such file."""


@dataclass(frozen=True, kw_only=True)
class CheckpointHeaders:
    """Every tensor of a checkpoint.

    Attributes:
        ends: Bytes of each file, by its name, as its header has it.
        source: ``local`` or ``hub``.
    """

    tensors: Mapping[str, CheckpointTensor] = field(hash=False)
    files: tuple[str, ...]
    ends: Mapping[str, int] = field(hash=False)
    source: str

    @property
    def total_bytes(self) -> int:
        """All tensors together."""
        return sum(tensor.num_bytes for tensor in self.tensors.values())

    @property
    def dtype(self) -> str | None:
        """The dtype vLLM takes where config.json names none: of the most floating-point tensors.

        Source: vLLM 0.33 ``config/model.py`` ``_find_dtype``, which asks the checkpoint's
        metadata and takes the widest; here the one that holds the most bytes, by torch's name.
        """
        sizes: Counter[str] = Counter()
        for tensor in self.tensors.values():
            if tensor.dtype in TORCH_DTYPES:
                sizes[TORCH_DTYPES[tensor.dtype]] += tensor.num_bytes
        return max(sizes, key=lambda name: (sizes[name], name)) if sizes else None


def hub_headers(repo_id: str, revision: str = "main") -> CheckpointHeaders | None:
    """Headers of a repository's safetensors files on the Hub; None where it has none.

    Raises:
        ConfigError: As ``model.hub.fetch_json``, or as ``local_headers``.
    """
    from ...config import hub
    from ...config.exchange import model_deadline

    deadline = model_deadline()
    fetch = functools.partial(hub.fetch_bytes, repo_id, deadline=deadline, repo_known=True)

    def read(name: str, start: int, count: int) -> bytes | None:
        part = fetch(revision, name, limit=count, start=start, count=count)
        return None if part is None else part.raw

    found = fetch(revision, INDEX_FILE, limit=MAX_HEADER_BYTES)
    if found is None:
        if (first := read(SINGLE_FILE, 0, _FIRST_BYTES)) is None:
            return None
        return all_headers([SINGLE_FILE], read, "hub", where=repo_id, first=first)
    where = f"{repo_id}'s {INDEX_FILE} on the Hub"
    index = index_object(found.raw, where)
    revision = found.commit or revision
    headers = all_headers(indexed_files(index, where), read, "hub", where=repo_id)
    check_index(index, headers, where=where)
    return headers


def indexed_files(index: Mapping[str, Any], where: str) -> list[str]:
    """The files that an index names, each once, sorted.

    Raises:
        ConfigError: It names none, too many, or one outside its folder.
    """
    names = index.get("weight_map")
    if not isinstance(names, Mapping) or not names:
        raise ConfigError(f"{printable(where)}: weight_map must be an object that names files")
    files = set()
    for name in names.values():
        if (
            not isinstance(name, str)
            or not name.endswith(".safetensors")
            or len(name) > 200
            or os.path.basename(name) != name
            or not name.isprintable()
        ):
            raise ConfigError(f"{printable(where)}: names {shown(name)}, not a safetensors file")
        files.add(name)
    check_count(files, where)
    return sorted(files)


def check_count(files: Collection[str], where: str) -> None:
    """Refuse more files than a checkpoint has.

    Raises:
        ConfigError: Naming ``where`` they are named.
    """
    if len(files) > MAX_FILES:
        raise ConfigError(f"{printable(where)}: names {len(files):,} files, at most {MAX_FILES:,}")


def all_headers(
    names: list[str], read: Reader, source: str, *, where: str, first: bytes | None = None
) -> CheckpointHeaders:
    """The headers of all these files.

    Args:
        names: Of the files.
        read: Gives their bytes.
        source: ``local`` or ``hub``.
        where: The folder or repository, for messages.
        first: The first bytes of a single file, where they are read already.

    Raises:
        ConfigError: A file is not there, or no safetensors file; or there are too many tensors.
    """
    tensors: dict[str, CheckpointTensor] = {}
    ends: dict[str, int] = {}
    for name in names:
        path = printable(f"{where}/{name}")
        start = read(name, 0, _FIRST_BYTES) if first is None else first
        if start is None:
            raise ConfigError(f"{path}: named in the index, but not there")
        length = header_length(start, path)
        raw = start[8 : 8 + length]
        if len(raw) < length and len(start) == _FIRST_BYTES:
            raw = read(name, 8, length) or b""
        found = parse_header(raw, length, path)
        if len(tensors) + len(found) > MAX_TENSORS:
            raise ConfigError(f"{path}: more than {MAX_TENSORS:,} tensors in all")
        tensors.update(found)
        ends[name] = 8 + length + data_bytes(found)
    return CheckpointHeaders(tensors=tensors, files=tuple(names), ends=ends, source=source)


def check_index(index: Mapping[str, Any], found: CheckpointHeaders, *, where: str) -> None:
    """Every tensor that the index names is in some file.

    Raises:
        ConfigError: Naming one that is not.
    """
    absent = [name for name in index["weight_map"] if name not in found.tensors]
    if absent:
        more = f" and {len(absent) - 1:,} more" if len(absent) > 1 else ""
        raise ConfigError(
            f"{printable(where)}: names tensor {shown(absent[0])}{more}, which no file holds: the "
            "checkpoint is not whole"
        )


def index_object(raw: bytes, what: str) -> dict[str, Any]:
    """The index in ``raw``: counted before it is parsed, as values take far more than their text.

    Raises:
        ConfigError: It is too large, holds too much, or is no JSON object.
    """
    if len(raw) > MAX_HEADER_BYTES:
        raise ConfigError(f"{what} is larger than {MAX_HEADER_BYTES // 1_000_000} MB")
    containers = raw.count(b"{") + raw.count(b"[")
    if containers > _MAX_OTHER_VALUES or raw.count(b",") > MAX_TENSORS + _MAX_OTHER_VALUES:
        raise ConfigError(f"{what} holds more than names of {MAX_TENSORS:,} tensors")
    try:
        found = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        raise ConfigError(f"{what} is not valid JSON ({reason})") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{what} must be a JSON object, is {shown(found)}")
    return found
