"""What a checkpoint holds: tensors named in the headers of its safetensors files.

A header is JSON before the data: only it is read, of a local file or by range request from the
Hub. It comes from a stranger, so everything in it is checked; whatever is wrong becomes one
``ConfigError`` line.

Source: the safetensors format, https://github.com/huggingface/safetensors (8 bytes of length,
little-endian, at most 100 MB of JSON, ``data_offsets`` from the header's end on).
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import ConfigError
from ...model.json_file import printable, shown
from ...records import dataclass, field

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
MAX_HEADER_BYTES = 100_000_000
MAX_FILES = 1000
_FIRST_BYTES = 128 * 1024  # most headers are shorter: one read a file
_MAX_TENSORS = 1_000_000
_MAX_DIMENSIONS = 16
_MAX_BYTES = 1 << 50

BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("F4", "I4", "U4"), 4),
}
"""Bits of an element, by the format's names of dtypes."""

TORCH_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""What vLLM calls the floating-point ones."""

Reader = Callable[[str, int, int], "bytes | None"]
"""Reads bytes of a file: its name, where they begin, how many; None where there is no such file."""


@dataclass(frozen=True)
class CheckpointTensor:
    """One tensor of a checkpoint.

    Attributes:
        dtype: By the format's names: ``BF16``, ``F8_E4M3`` ...
        shape: Of the whole tensor.
        num_bytes: Stored.
    """

    dtype: str
    shape: tuple[int, ...]
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class CheckpointHeaders:
    """Every tensor of a checkpoint.

    Attributes:
        tensors: By name.
        files: Names of the files read.
        source: ``local`` or ``hub``.
    """

    tensors: Mapping[str, CheckpointTensor] = field(hash=False)
    files: tuple[str, ...]
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


def local_headers(folder: str) -> CheckpointHeaders | None:
    """Headers of the safetensors files in a folder; None where it has none.

    Raises:
        ConfigError: A file cannot be read, or is no safetensors file.
    """
    index_path = os.path.join(folder, INDEX_FILE)
    index = _local_index(index_path) if os.path.lexists(index_path) else None
    if index is None:
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(".safetensors"))
        except OSError as error:
            raise ConfigError(
                f"{printable(folder)}: cannot be read ({error.strerror or error})"
            ) from None
        if not names:
            return None
    else:
        names = indexed_files(index, index_path)

    def read(name: str, start: int, count: int) -> bytes | None:
        path = os.path.join(folder, name)
        try:
            if not os.path.isfile(path):
                return None
            with open(path, "rb") as file:
                file.seek(start)
                return file.read(count)
        except OSError as error:
            where = f"{printable(path)}: cannot be read"
            raise ConfigError(f"{where} ({error.strerror or error})") from None

    return _all_headers(names, read, "local", where=folder)


def _local_index(path: str) -> dict[str, Any]:
    try:
        if not os.path.isfile(path):
            raise ConfigError(f"{printable(path)}: not a regular file")
        with open(path, "rb") as file:
            raw = file.read(MAX_HEADER_BYTES + 1)
    except OSError as error:
        where = f"{printable(path)}: cannot be read"
        raise ConfigError(f"{where} ({error.strerror or error})") from None
    return _json_object(raw, printable(path))


def hub_headers(repo_id: str, revision: str = "main") -> CheckpointHeaders | None:
    """Headers of a repository's safetensors files on the Hub; None where it has none.

    Raises:
        ConfigError: As ``model.hub.fetch_json``, or a file is no safetensors file.
    """
    from ...model import hub
    from ...model.exchange import model_deadline

    deadline = model_deadline()
    fetch = functools.partial(hub.fetch_bytes, repo_id, deadline=deadline, repo_known=True)
    index = fetch(revision, INDEX_FILE, limit=MAX_HEADER_BYTES)
    names = [SINGLE_FILE]
    if index is not None:
        where = f"{repo_id}'s {INDEX_FILE} on the Hub"
        names = indexed_files(_json_object(index.raw, where), where)
        revision = index.commit or revision

    def read(name: str, start: int, count: int) -> bytes | None:
        part = fetch(revision, name, limit=count, start=start, count=count)
        return None if part is None else part.raw

    return _all_headers(names, read, "hub", where=repo_id)


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
    if len(files) > MAX_FILES:
        raise ConfigError(f"{printable(where)}: names {len(files):,} files, at most {MAX_FILES:,}")
    return sorted(files)


def _all_headers(
    names: list[str], read: Reader, source: str, *, where: str
) -> CheckpointHeaders | None:
    tensors: dict[str, CheckpointTensor] = {}
    for name in names:
        path = printable(f"{where}/{name}")
        start = read(name, 0, _FIRST_BYTES)
        if start is None:
            if len(names) == 1:
                return None
            raise ConfigError(f"{path}: named in the index, but not there")
        length = header_length(start, path)
        raw = start[8 : 8 + length]
        if len(raw) < length and len(start) == _FIRST_BYTES:
            raw = read(name, 8, length) or b""
        found = parse_header(raw, length, path)
        if len(tensors) + len(found) > _MAX_TENSORS:
            raise ConfigError(f"{path}: more than {_MAX_TENSORS:,} tensors in all")
        tensors.update(found)
    return CheckpointHeaders(tensors=tensors, files=tuple(names), source=source)


def header_length(start: bytes, where: str) -> int:
    """The header's length from a file's first eight bytes.

    Raises:
        ConfigError: There are not eight, or they say something absurd.
    """
    if len(start) < 8:
        raise ConfigError(f"{where}: not a safetensors file ({len(start)} bytes)")
    length = int.from_bytes(start[:8], "little")
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise ConfigError(
            f"{where}: not a safetensors file (a header of {length:,} bytes; at most "
            f"{MAX_HEADER_BYTES // 1_000_000} MB)"
        )
    return length


def parse_header(raw: bytes, length: int, where: str) -> dict[str, CheckpointTensor]:
    """The tensors that a header names.

    Raises:
        ConfigError: It is cut short, no JSON object, or a tensor's entry makes no sense.
    """
    if len(raw) < length:
        raise ConfigError(f"{where}: ends within its header ({len(raw):,} of {length:,} bytes)")
    if raw.count(b"{") > _MAX_TENSORS + 2:
        raise ConfigError(f"{where}: names more than {_MAX_TENSORS:,} tensors")
    header = _json_object(raw[:length], f"{where}: its header")
    found: dict[str, CheckpointTensor] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        if name != "__metadata__":
            at = f"{where}: tensor {shown(name)}"
            begin, end, found[name] = _tensor(entry, at)
            spans.append((begin, end, name))
    _check_spans(spans, where)
    return found


def _json_object(raw: bytes, what: str) -> dict[str, Any]:
    if len(raw) > MAX_HEADER_BYTES:
        raise ConfigError(f"{what} is larger than {MAX_HEADER_BYTES // 1_000_000} MB")
    try:
        found = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        raise ConfigError(f"{what} is not valid JSON ({reason})") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{what} must be a JSON object, is {shown(found)}")
    return found


def _tensor(entry: object, at: str) -> tuple[int, int, CheckpointTensor]:
    if not isinstance(entry, dict):
        raise ConfigError(f"{at} must be an object, is {shown(entry)}")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in BITS:
        raise ConfigError(f"{at} has dtype {shown(dtype)}, which is not known")
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS or not all(map(_is_size, shape)):
        raise ConfigError(f"{at} has shape {shown(shape)}; expected sizes from 0 up")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise ConfigError(f"{at} has data_offsets {shown(offsets)}; expected two from 0 up")
    begin, end = offsets
    size = math.prod(shape) * BITS[dtype]
    if size % 8 or begin + size // 8 != end:
        raise ConfigError(
            f"{at} of {dtype} {'x'.join(map(str, shape))} takes {size // 8:,} bytes, its "
            f"data_offsets say {end - begin:,}"
        )
    return begin, end, CheckpointTensor(dtype, tuple(shape), size // 8)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_BYTES


def _check_spans(spans: list[tuple[int, int, str]], where: str) -> None:
    """Tensors lie one behind the other, without overlap or hole, as the format demands."""
    reached = 0
    for begin, end, name in sorted(spans):
        if begin != reached:
            problem = "overlaps the one before it" if begin < reached else "leaves a hole before it"
            raise ConfigError(f"{where}: tensor {shown(name)} {problem} (data_offsets)")
        reached = end
