"""Block sizes that attention kernels run: exact ones, or any multiple of one.

Source: vLLM 0.33 ``v1/attention/backend.py`` ``MultipleOf``, ``supports_block_size``,
``get_preferred_block_size`` and ``model_executor/layers/attention/attention.py``
``_largest_kernel_block_within``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...records import dataclass


@dataclass(frozen=True)
class KernelBlock:
    """A block size a kernel takes.

    Attributes:
        tokens: The size, in tokens.
        multiples: Whether every multiple of it will do as well.
    """

    tokens: int
    multiples: bool = False


KernelBlocks = tuple[KernelBlock, ...]
ANY_BLOCK: KernelBlocks = (KernelBlock(1, multiples=True),)


def exactly(*tokens: int) -> KernelBlocks:
    """These sizes and no others."""
    return tuple(KernelBlock(size) for size in tokens)


def multiple_of(tokens: int) -> KernelBlocks:
    """Any multiple of ``tokens``."""
    return (KernelBlock(tokens, multiples=True),)


def divides(blocks: Sequence[KernelBlock], block_size: int) -> bool:
    """Whether a block of ``block_size`` tokens can be cut into kernel blocks."""
    return not blocks or any(block_size % block.tokens == 0 for block in blocks)


def smallest(blocks: Sequence[KernelBlock]) -> int:
    """Fewest tokens a kernel block may have."""
    return min(block.tokens for block in blocks)


def largest_within(
    blocks: Sequence[KernelBlock], bytes_per_token: int, page_budget: int, fallback: int
) -> int:
    """Largest kernel block, in tokens, whose page fits; the smallest one where none fits.

    Args:
        blocks: What the kernels take.
        bytes_per_token: Of one layer.
        page_budget: Bytes the page may have.
        fallback: Tokens, where the backend says nothing.
    """
    room = page_budget // bytes_per_token
    candidates = [
        max(block.tokens, room // block.tokens * block.tokens) if block.multiples else block.tokens
        for block in blocks
    ]
    if not candidates:
        return fallback
    fitting = [size for size in candidates if size * bytes_per_token <= page_budget]
    return max(fitting) if fitting else min(candidates)
