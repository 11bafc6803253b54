"""A checkpoint in a folder: the files that vLLM would load, whole or refused by name.

Source: vLLM 0.33 ``model_loader/default_loader.py`` ``_prepare_weights``, ``weight_utils.py``
``filter_duplicate_safetensors_files``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from ...errors import ConfigError, printable
from ...records import dataclass, field
from .headers import (
    INDEX_FILE,
    MAX_FILES,
    CheckpointHeaders,
    all_headers,
    check_count,
    check_index,
    index_object,
    indexed_files,
)
from .safetensors_header import MAX_HEADER_BYTES, header_length

FORMATS = frozenset(
    ["auto", "hf", "safetensors", "fastsafetensors", "instanttensor", "mistral"],
)
"""Load formats that read whole safetensors files of the model's folder."""
_MISTRAL = "consolidated"
_NUMBERED = re.compile(r"(.{1,200})-(\d{1,6})-of-(\d{1,6})\.safetensors")
_ENTRY = re.compile(
    rb'"((?:[^"\\]|\\.){1,1000})"\s*:\s*\{[^{}]{0,1000}?"data_offsets"\s*:\s*'
    rb"\[\s*\d{1,16}\s*,\s*(\d{1,16})\s*\]"
)
"""A tensor's name and where it ends: what is looked at of headers that nobody needs in full."""


class NotWhole(ConfigError):
    """Files of the checkpoint are not there."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """What vLLM would load of a folder.

    Attributes:
        index: The object that names tensors and their files, if there is one.
        index_path: Its file.
    """

    folder: str
    names: tuple[str, ...]
    index: Mapping[str, Any] | None = field(hash=False)
    index_path: str

    def read(self, name: str, start: int, count: int) -> bytes | None:
        """Bytes of one file; None where there is none."""
        return _bytes(os.path.join(self.folder, name), start, count)


@dataclass(frozen=True, kw_only=True)
class Held:
    """What the files of a checkpoint hold, as their headers name it."""

    names: frozenset[str]
    num_bytes: int
    files: tuple[str, ...]


def files_to_load(folder: str, load_format: str = "auto") -> Files | None:
    """The safetensors files that vLLM would load; None where the folder has none, nor an index.

    Raises:
        NotWhole: Files that the index or their numbers speak of are not there.
        ConfigError: The folder or the index cannot be read, or makes no sense.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".safetensors"))
    except OSError as error:
        raise ConfigError(
            f"{printable(folder)}: cannot be read ({error.strerror or error})"
        ) from None
    mistral = [name for name in names if name.startswith(_MISTRAL)]
    is_mistral = load_format == "mistral" or (load_format == "auto" and bool(mistral))
    names = mistral if is_mistral else names
    index_path = os.path.join(folder, f"{_MISTRAL}{INDEX_FILE[5:]}" if is_mistral else INDEX_FILE)
    index = None
    if os.path.lexists(index_path):
        raw = _bytes(index_path, 0, MAX_HEADER_BYTES + 1)
        if raw is None:
            raise ConfigError(f"{printable(index_path)}: not a regular file")
        index = index_object(raw, printable(index_path))
        names = indexed_files(index, index_path)
        absent = [name for name in names if not os.path.isfile(os.path.join(folder, name))]
        if absent:
            raise NotWhole(
                f"{printable(os.path.join(folder, absent[0]))}: named in the index, but not there "
                f"({len(absent):,} of {len(names):,} files): the checkpoint is not whole"
            )
    elif not names:
        return None
    check_count(names, folder)
    if index is None:
        _check_numbers(names, where=folder)
    return Files(folder=folder, names=tuple(names), index=index, index_path=index_path)


def local_headers(folder: str, load_format: str = "auto") -> CheckpointHeaders | None:
    """Headers of the files that vLLM would load of a folder; None where it has none.

    Raises:
        ConfigError: A file cannot be read or is no safetensors file, or some of the checkpoint is
            not there.
    """
    files = files_to_load(folder, load_format)
    return None if files is None else _headers(files)


def held(folder: str, load_format: str = "auto") -> Held | None:
    """Names and bytes of the tensors, for little work: a header is looked through, not parsed.

    Where something is odd about it, it is parsed, and so refused or understood.

    Raises:
        ConfigError: As ``local_headers``.
    """
    files = files_to_load(folder, load_format)
    if files is None:
        return None
    names: set[bytes] = set()
    size = 0
    for name in files.names:
        start = files.read(name, 0, 8) or b""
        length = header_length(start, printable(os.path.join(folder, name)))
        found = _ENTRY.findall(files.read(name, 8, length) or b"")
        end = max(map(int, (end for _, end in found)), default=0)
        there = os.path.getsize(os.path.join(folder, name))
        if not found or there != 8 + length + end or b"\\" in b"".join(dict(found)):
            break
        names.update(dict(found))
        size += end
    else:
        decoded = frozenset(each.decode("utf-8", "replace") for each in names)
        if files.index is None or decoded.issuperset(files.index["weight_map"]):
            return Held(names=decoded, num_bytes=size, files=files.names)
    whole = _headers(files)
    return Held(names=frozenset(whole.tensors), num_bytes=whole.total_bytes, files=files.names)


def _headers(files: Files) -> CheckpointHeaders:
    """All of every header."""
    found = all_headers(list(files.names), files.read, "local", where=files.folder)
    if files.index is not None:
        check_index(files.index, found, where=files.index_path)
    for name, end in found.ends.items():
        path = os.path.join(files.folder, name)
        if os.path.getsize(path) < end:
            raise ConfigError(
                f"{printable(path)}: ends within its data ({os.path.getsize(path):,} of {end:,} "
                "bytes): the checkpoint is not whole"
            )
    return found


def _bytes(path: str, start: int, count: int) -> bytes | None:
    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(min(count, max(os.fstat(file.fileno()).st_size - start, 0)))
    except OSError as error:
        where = f"{printable(path)}: cannot be read"
        raise ConfigError(f"{where} ({error.strerror or error})") from None


def _check_numbers(names: list[str], *, where: str) -> None:
    """Of files numbered "1 of 2" every one is there."""
    there: dict[tuple[str, int], set[int]] = {}
    for name in names:
        numbered = _NUMBERED.fullmatch(name)
        if numbered is not None:
            there.setdefault((numbered[1], int(numbered[3])), set()).add(int(numbered[2]))
    for (stem, count), numbers in there.items():
        if len(numbers & set(range(1, min(count, MAX_FILES) + 1))) < count:
            raise NotWhole(
                f"{printable(where)}: holds {len(numbers):,} of {count:,} files {printable(stem)}-"
                f"…-of-{count:05}.safetensors: the checkpoint is not whole"
            )
