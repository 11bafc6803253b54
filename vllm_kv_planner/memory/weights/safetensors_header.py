"""One safetensors header, read entry by entry: a tensor's name, dtype, shape and offsets.

A header comes from a stranger and may be 100 MB of JSON. It is never parsed as a whole, which
would make objects of whatever it holds: each entry is cut out by a pattern of bounded length,
read, checked and forgotten.

Source: the safetensors format, https://github.com/huggingface/safetensors (8 bytes of length,
little-endian, at most 100 MB of JSON, ``data_offsets`` from the header's end on).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ...errors import ConfigError
from ...files.json_file import shown
from ...records import dataclass

MAX_HEADER_BYTES = 100_000_000
MAX_TENSORS = 500_000
_MAX_METADATA_BYTES = 10_000_000
_MAX_METADATA = 10_000
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

_DTYPES = {name: name for name in BITS}  # one object a name, however many tensors have it

# JSON's white space; a name of bounded length, escapes in it; an object that holds no other.
_SPACE = rb"[ \t\n\r]*"
_NAME = rb'("(?:[^"\\]|\\.){0,1000}")' + _SPACE + b":" + _SPACE
_NAMED = re.compile(_SPACE + _NAME)
_PAIR = re.compile(_SPACE + _NAME + rb"(\{[^{}]{0,1000}\})")
_BLANK = re.compile(_SPACE)
_TEXT_BLANK = re.compile(_SPACE.decode())


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
        ConfigError: It is cut short, holds anything but tensors and metadata, none or too many
            tensors, or an entry that makes no sense.
    """
    if len(raw) < length:
        raise ConfigError(f"{where}: ends within its header ({len(raw):,} of {length:,} bytes)")
    found: dict[str, CheckpointTensor] = {}
    spans: list[tuple[int, int, str]] = []
    at = _Position(raw, length, where)
    at.expect(b"{")
    while not at.comes(b"}"):
        if spans or at.has_metadata:
            at.expect(b",")
        pair = at.tensor()
        if pair is None:
            continue
        name, entry = pair
        if name in found:
            raise ConfigError(f"{where}: names {shown(name)} twice")
        if len(found) >= MAX_TENSORS:
            raise ConfigError(f"{where}: names more than {MAX_TENSORS:,} tensors")
        begin, end, found[name] = _tensor(name, entry, where)
        spans.append((begin, end, name))
    at.expect_end()
    if not found:
        raise ConfigError(f"{where}: holds no tensor: the checkpoint is not whole")
    _check_spans(spans, where)
    return found


def data_bytes(tensors: dict[str, CheckpointTensor]) -> int:
    """Bytes that follow a header of these tensors, which lie one behind the other."""
    return sum(tensor.num_bytes for tensor in tensors.values())


class _Position:
    """Goes through a header's bytes, once."""

    def __init__(self, raw: bytes, length: int, where: str) -> None:
        self.raw, self.length, self.where = raw, length, where
        self.at = 0
        self.has_metadata = False

    def refused(self, expected: str) -> ConfigError:
        where = f"{self.where}: its header"
        return ConfigError(
            f"{where} is no list of tensors (expected {expected} at byte {self.at:,})"
        )

    def blank(self) -> None:
        found = _BLANK.match(self.raw, self.at, self.length)
        self.at = self.at if found is None else found.end()

    def comes(self, char: bytes) -> bool:
        """Whether ``char`` is next; it stays."""
        self.blank()
        return self.raw.startswith(char, self.at, self.length)

    def expect(self, char: bytes) -> None:
        if not self.comes(char):
            raise self.refused(char.decode())
        self.at += len(char)

    def expect_end(self) -> None:
        self.expect(b"}")
        self.blank()
        if self.at != self.length:
            raise self.refused("its end")

    def tensor(self) -> tuple[str, dict[str, Any]] | None:
        """The next tensor's name and entry; None where that was the metadata."""
        found = _PAIR.match(self.raw, self.at, self.length)
        if found is not None:
            pair = _json(b"[%b,%b]" % found.groups())
            if isinstance(pair, list) and pair[0] != "__metadata__":
                self.at = found.end()
                return pair[0], pair[1]
        found = _NAMED.match(self.raw, self.at, self.length)
        if found is None:
            raise self.refused("a tensor's name")
        self.at = found.end()
        if _json(found[1]) != "__metadata__" or self.has_metadata:
            raise self.refused("a tensor's {dtype, shape, data_offsets}")
        self.skip_metadata()
        return None

    def skip_metadata(self) -> None:
        """Texts by name, which nobody here reads."""
        begin = self.at
        end = min(self.length, begin + _MAX_METADATA_BYTES)
        text = self.raw[begin:end].decode("utf-8", errors="replace")
        after = 0
        try:
            after = _end_of_texts(text)
        except (ValueError, IndexError):
            raise self.refused("texts by name in __metadata__") from None
        # A character cut at the end of what was decoded is none of the metadata.
        self.at = begin + len(text[:after].encode("utf-8"))
        if self.raw[self.at - 1 : self.at] != b"}":
            raise self.refused("UTF-8 text in __metadata__")
        self.has_metadata = True


def _end_of_texts(text: str) -> int:
    """Where the object of texts that ``text`` begins with ends. Raises ValueError if it is none."""
    decoder = json.JSONDecoder()
    if not text.startswith("{"):
        raise ValueError
    at = _after_blank(text, 1)
    if text[at] == "}":
        return at + 1
    for _ in range(_MAX_METADATA):
        for sign in ":,":
            if text[at] != '"':
                raise ValueError
            at = _after_blank(text, decoder.raw_decode(text, at)[1])
            if sign == "," and text[at] == "}":
                return at + 1
            if text[at] != sign:
                raise ValueError
            at = _after_blank(text, at + 1)
    raise ValueError


def _after_blank(text: str, at: int) -> int:
    found = _TEXT_BLANK.match(text, at)
    return at if found is None else found.end()


def _json(raw: bytes) -> object:
    try:
        return json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


def _tensor(name: str, entry: dict[str, Any], where: str) -> tuple[int, int, CheckpointTensor]:
    dtype: Any = entry.get("dtype")
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    wrong = None
    if not isinstance(dtype, str) or dtype not in BITS:
        wrong = f"dtype {shown(dtype)}, which is not known"
    elif not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        wrong = f"shape {shown(shape)}; expected sizes from 0 up"
    elif not _are_sizes(offsets) or len(offsets) != 2:
        wrong = f"data_offsets {shown(offsets)}; expected two from 0 up"
    if wrong is not None:
        raise ConfigError(f"{where}: tensor {shown(name)} has {wrong}")
    begin, end = offsets
    size = math.prod(shape) * BITS[dtype]
    if size % 8 or begin + size // 8 != end:
        raise ConfigError(
            f"{where}: tensor {shown(name)} of {dtype} {'x'.join(map(str, shape))} takes "
            f"{size // 8:,} bytes, its data_offsets say {end - begin:,}"
        )
    return begin, end, CheckpointTensor(_DTYPES[dtype], tuple(shape), size // 8)


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(
        type(each) is int and 0 <= each < _MAX_BYTES for each in value
    )


def _check_spans(spans: list[tuple[int, int, str]], where: str) -> None:
    """Tensors lie one behind the other, without overlap or hole, as the format demands."""
    reached = 0
    for begin, end, name in sorted(spans):
        if begin != reached:
            problem = "overlaps the one before it" if begin < reached else "leaves a hole before it"
            raise ConfigError(f"{where}: tensor {shown(name)} {problem} (data_offsets)")
        reached = end
