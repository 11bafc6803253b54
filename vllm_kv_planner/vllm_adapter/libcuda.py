"""A ``libcuda.so.1`` with no driver behind it, written without a compiler.

vLLM's compiled extensions are linked against the NVIDIA driver's library and cannot be imported
where there is none. They need it only to load: on the planning path nothing calls it. So the child
process writes a shared object of a few kilobytes whose every function returns 100,
CUDA_ERROR_NO_DEVICE, and loads it first; the dynamic linker then takes it for ``libcuda.so.1``.
Where a driver is installed, its own library is used.

Source: System V ABI, chapters 4 and 5 (ELF), and its x86-64 and AArch64 supplements.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO, NamedTuple

from ..errors import UnsupportedError

SONAME = "libcuda.so.1"

# Machine code of "return 100", and ELF's number for the machine.
_RETURN_100 = {
    "x86_64": (62, bytes.fromhex("b864000000c3")),  # mov eax, 100; ret
    "aarch64": (183, bytes.fromhex("800c8052c0035fd6")),  # mov w0, #100; ret
}
_PAGE = 0x10000  # the largest page either machine uses
# Tags of the dynamic section.
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 4, 5, 6, 10, 11, 14
_DYNAMIC = struct.Struct("<qQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")


def load_libcuda(folder: str, extensions: Iterable[str]) -> None:
    """Load the driver's library, or a stand-in written to ``folder`` for these extensions.

    Raises:
        UnsupportedError: No driver, and no stand-in for this kind of machine.
    """
    try:
        ctypes.CDLL(SONAME, mode=ctypes.RTLD_GLOBAL)
        return
    except OSError:
        pass
    names = {name for path in extensions for name in undefined_functions(path, SONAME)}
    path = os.path.join(folder, SONAME)
    with open(path, "wb") as file:
        file.write(stub_library(sorted(names | {"cuInit", "cuDriverGetVersion"})))
    ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)


def stub_library(names: Sequence[str], machine: str | None = None) -> bytes:
    """A shared object that defines ``names``, each a function that returns 100."""
    machine = machine or platform.machine()
    if machine not in _RETURN_100:
        raise UnsupportedError(
            f"no NVIDIA driver, and no stand-in for its {SONAME} on {machine}; "
            "x86_64 and aarch64 have one"
        )
    elf_machine, code = _RETURN_100[machine]
    strings, offsets = string_table([SONAME, *names])
    hash_at = _HEADER.size + 4 * _SEGMENT.size
    table = hash_table(len(names))
    symbols_at = _aligned(hash_at + len(table))
    strings_at = symbols_at + _SYMBOL.size * (len(names) + 1)
    code_at = _aligned(strings_at + len(strings))
    dynamic_at = -(-(code_at + len(code)) // _PAGE) * _PAGE
    symbols = bytes(_SYMBOL.size) + b"".join(
        _SYMBOL.pack(offsets[name], 0x12, 0, 1, code_at, len(code)) for name in names
    )
    dynamic = dynamic_section(
        {
            _DT_SONAME: offsets[SONAME],
            _DT_HASH: hash_at,
            _DT_STRTAB: strings_at,
            _DT_SYMTAB: symbols_at,
            _DT_STRSZ: len(strings),
            _DT_SYMENT: _SYMBOL.size,
        }
    )
    read, write, execute = 4, 2, 1
    segments = (
        _segment(1, read | execute, 0, code_at + len(code), _PAGE)
        # The linker writes addresses into the dynamic section, so it is writable, on its own page.
        + _segment(1, read | write, dynamic_at, len(dynamic), _PAGE)
        + _segment(2, read | write, dynamic_at, len(dynamic), 8)
        # Without PT_GNU_STACK the linker would want an executable stack; hardened ones refuse.
        + _segment(0x6474E551, read | write, 0, 0, 16)
    )
    image = bytearray(dynamic_at + len(dynamic))
    for at, part in (
        (0, file_header(elf_machine) + segments),
        (hash_at, table),
        (symbols_at, symbols),
        (strings_at, strings),
        (code_at, code),
        (dynamic_at, dynamic),
    ):
        image[at : at + len(part)] = part
    return bytes(image)


def dynamic_section(entries: Mapping[int, int]) -> bytes:
    """What the linker reads first: tags and values, ended by a zero."""
    return b"".join(_DYNAMIC.pack(*entry) for entry in (*entries.items(), (0, 0)))


def file_header(elf_machine: int) -> bytes:
    """Of a shared object with four segments and no sections."""
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")  # 64 bits, little endian
    shared_object, elf_version, entry, sections_at, flags = 3, 1, 0, 0, 0
    return _HEADER.pack(
        identity,
        shared_object,
        elf_machine,
        elf_version,
        entry,
        _HEADER.size,
        sections_at,
        flags,
        _HEADER.size,
        _SEGMENT.size,
        4,
        0,
        0,
        0,
    )


def string_table(names: Iterable[str]) -> tuple[bytes, dict[str, int]]:
    """The names, each ended by a zero, and where each begins."""
    table = b"\0"
    offsets: dict[str, int] = {}
    for name in names:
        offsets[name] = len(table)
        table += name.encode() + b"\0"
    return table, offsets


def hash_table(num_symbols: int) -> bytes:
    """DT_HASH with a single bucket: the linker walks the chain, which is short enough."""
    count = num_symbols + 1  # symbol 0 is the undefined one
    chain = [0, *(index + 1 if index + 1 < count else 0 for index in range(1, count))]
    return struct.pack(f"<{3 + count}I", 1, count, 1 if num_symbols else 0, *chain)


def _segment(kind: int, flags: int, offset: int, size: int, alignment: int) -> bytes:
    return _SEGMENT.pack(kind, flags, offset, offset, offset, size, size, alignment)


def _aligned(offset: int) -> int:
    return -(-offset // 16) * 16


_STRTAB, _DYNAMIC_SECTION, _DYNSYM = 3, 6, 11
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
    dynamic = next((s for s in sections if s.kind == _DYNAMIC_SECTION), None)
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
