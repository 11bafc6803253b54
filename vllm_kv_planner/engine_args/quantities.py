"""Numbers as people write them on vLLM's command line: ``8k``, ``16K``, ``25.6k``, ``auto``.

Restates ``human_readable_int`` and ``human_readable_int_or_auto`` of vLLM 0.33
(vllm/utils/argparse_utils.py): a lower-case suffix is decimal and takes a fraction, an
upper-case one is binary and does not, anything else must be a plain whole number.
"""

from __future__ import annotations

import re

from ..errors import InputError

_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_WITH_SUFFIX = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT])")

_SPELLED = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt])(i?)b", re.IGNORECASE)
_BARE = re.compile(r"\d+(?:\.\d*)?", re.ASCII)
_POWER = {"k": 1, "m": 2, "g": 3, "t": 4}


def parse_quantity(text: str) -> int:
    """A count or size in bytes as vLLM reads it: ``1k`` 1,000, ``1K`` 1,024, ``25.6k`` 25,600.

    Used by --max-num-batched-tokens, --max-num-scheduled-tokens, --kv-cache-memory-bytes.
    Raises InputError on what vLLM refuses: ``1.5K``, ``80GiB``, ``1e9``, ``""``.
    """
    value = text.strip()
    match = _WITH_SUFFIX.fullmatch(value)
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
    if (spelled := _SPELLED.fullmatch(value)) is not None:
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
    match = _SPELLED.fullmatch(text.strip())
    if match:
        number, unit, binary = match.groups()
        size = _scaled(number, (1024 if binary else 1000) ** _POWER[unit.lower()], text)
    elif _BARE.fullmatch(text.strip()) and float(text) < 1000:
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
