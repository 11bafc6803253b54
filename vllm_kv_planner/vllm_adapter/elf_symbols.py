"""Read from a shared object which functions it expects of one library."""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

_STRTAB, _DYNAMIC, _DYNSYM = 3, 6, 11
_NEEDED = 1


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


def undefined_functions(path: str, library: str, prefix: str = "cu") -> set[str]:
    """Names beginning with ``prefix`` that the object at ``path`` takes from others.

    Empty where it does not name ``library`` among those it needs, or is not a 64-bit
    little-endian ELF file with section headers.
    """
    try:
        with open(path, "rb") as file:
            return _read(file, library, prefix)
    except (OSError, ValueError, struct.error, IndexError):
        return set()


def _read(file: BinaryIO, library: str, prefix: str) -> set[str]:
    header = file.read(64)
    if header[:6] != b"\x7fELF\x02\x01":
        return set()
    (sections_at,) = struct.unpack_from("<Q", header, 40)
    size, count = struct.unpack_from("<HH", header, 58)
    file.seek(sections_at)
    table = file.read(size * count)
    sections = [_Section(*struct.unpack_from("<IIQQQQIIQQ", table, size * i)) for i in range(count)]
    dynamic = next((s for s in sections if s.kind == _DYNAMIC), None)
    if dynamic is None or library not in _needed(file, dynamic, sections):
        return set()
    names: set[str] = set()
    for section in sections:
        if section.kind == _DYNSYM:
            strings = _content(file, sections[section.link])
            for name, _, _, defined_in, _, _ in struct.iter_unpack(
                "<IBBHQQ", _content(file, section)
            ):
                text = _text(strings, name)
                # cuInit, not cudaMalloc or cublasCreate: the driver's names go on in upper case.
                if defined_in == 0 and text.startswith(prefix) and text[2:3].isupper():
                    names.add(text)
    return names


def _needed(file: BinaryIO, dynamic: _Section, sections: list[_Section]) -> set[str]:
    strings = _content(file, sections[dynamic.link])
    entries = struct.iter_unpack("<qQ", _content(file, dynamic))
    return {_text(strings, value) for tag, value in entries if tag == _NEEDED}


def _content(file: BinaryIO, section: _Section) -> bytes:
    file.seek(section.offset)
    return file.read(section.size)


def _text(strings: bytes, offset: int) -> str:
    return strings[offset : strings.index(b"\0", offset)].decode("ascii", "replace")
