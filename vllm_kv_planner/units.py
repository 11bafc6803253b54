"""Counts and sizes as people write and read them; GiB of 2^30 bytes, always written so.

Source of what is read: vLLM 0.33 ``utils/argparse_utils.py`` ``human_readable_int`` (``8k``,
``16K``, ``25.6k``: a lower-case suffix is decimal and takes a fraction, an upper-case one is binary
and does not).
"""

from __future__ import annotations

import re

from .errors import InputError

MIB = 1 << 20
GIB = 1 << 30


def gib(size: int) -> str:
    """``size`` bytes in GiB; small ones with the digits that still tell something, and in MiB.

    >>> gib(37_748_736)
    '0.0352 GiB (36.00 MiB)'
    """
    if size < 0:
        return f"-{gib(-size)}"
    if size < GIB:
        return f"{size / GIB:.4f} GiB ({size / MIB:,.2f} MiB)"
    return f"{size / GIB:,.2f} GiB"


_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SPELLED = r"(?i)(\d+(?:\.\d+)?)\s*([kmgt])(i?)b"


def parse_quantity(text: str) -> int:
    """A count or size in bytes as vLLM reads it: ``1k`` 1,000, ``1K`` 1,024, ``25.6k`` 25,600.

    Used by --max-num-batched-tokens, --max-num-scheduled-tokens, --kv-cache-memory-bytes.
    Raises InputError on what vLLM refuses: ``1.5K``, ``80GiB``, ``1e9``, ``""``.
    """
    value = text.strip()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGtT])", value)
    if match:
        number, suffix = match.groups()
        if suffix in _DECIMAL:
            return _scaled(number, _DECIMAL[suffix], text)
        if "." in number:
            raise InputError(
                f"{_shown(text)}: decimals are not allowed with the binary suffix {suffix}; "
                f"did you mean {number}{suffix.lower()}?"
            )
        return _whole(number, text) * _BINARY[suffix]
    if (spelled := re.fullmatch(_SPELLED, value)) is not None:
        number, unit, binary = spelled.groups()
        vllm_way = number + (unit.upper() if binary else unit.lower())
        if not (binary and "." in number):
            raise InputError(
                f"{_shown(text)}: vLLM takes no spelled-out units; write {vllm_way} "
                "(upper case: powers of 1024, lower case: of 1000)"
            )
    return _whole(value, text)


def parse_quantity_or_auto(text: str) -> int:
    """``parse_quantity``, and ``auto`` or ``-1`` as -1: --max-model-len fitted to memory."""
    value = text.strip()
    if value == "-1" or value.lower() == "auto":
        return -1
    return parse_quantity(value)


def parse_memory_size(text: str) -> int:
    """Bytes of memory for this planner's own flags (--gpu-memory): units may be spelled out.

    ``80GiB`` 80 x 2^30, ``80GB`` 80 x 10^9, ``79.19GiB``, and all that ``parse_quantity``
    takes; a number below 1,000 without a unit is GiB, for nobody counts so few bytes.
    Raises InputError unless the size is positive.
    """
    match = re.fullmatch(_SPELLED, text.strip())
    if match:
        number, unit, binary = match.groups()
        factor = _BINARY[unit.upper()] if binary else _DECIMAL[unit.lower()]
        size = _scaled(number, factor, text)
    elif re.fullmatch(r"[0-9]+(?:\.[0-9]*)?", text.strip()) and float(text) < 1000:
        size = _scaled(text.strip(), 1 << 30, text)
    else:
        size = parse_quantity(text)
    if size <= 0:
        raise InputError(f"{_shown(text)}: a memory size must be positive")
    return size


def _scaled(number: str, factor: int, text: str) -> int:
    try:
        return int(float(number) * factor)  # as vLLM multiplies: in floating point
    except OverflowError:
        raise InputError(f"{_shown(text)} is too large") from None


def _whole(value: str, text: str) -> int:
    try:
        return int(value)
    except ValueError:  # also more digits than Python converts
        raise InputError(
            f"{_shown(text)} is not a whole number; valid: 8192, 8k (8,000), 8K (8,192), "
            "and likewise m M g G t T"
        ) from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
