"""Names of blocks: what makes two blocks hold the same tokens.

vLLM names a block by a hash over all tokens up to the block's end, one name every
``hash_block_size`` tokens (0.33 ``kv_cache_utils.get_request_block_hasher``). A trace has no
tokens, only segments, so the name here is made of the segments up to the block's end. Token ``j``
of a segment is the same wherever that segment follows the same ones: segments of one id but
different lengths share the tokens of the shorter. All other tokens are the request's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from .types import Segment

OWN = 1 << 63
"""Names from here on are of tokens that only one request has; hashes are smaller."""
OWN_BITS = 32
"""Names set aside for each request's own blocks: more than any request has tokens."""


class BlockKeys:
    """The names of one request's blocks, by their number.

    Attributes:
        shared: Names of the blocks that lie within the shared prefix.
        own: Add a block's number to it for its name, once the shared ones end.
    """

    __slots__ = ("own", "shared")

    def __init__(self, number: int, prefix: tuple[Segment, ...], hash_block_size: int) -> None:
        self.shared: Sequence[int] = prefix_keys(prefix, hash_block_size) if prefix else ()
        self.own = OWN + (number << OWN_BITS)

    def at(self, index: int) -> int:
        """Name of the prefix that ends with block ``index``."""
        shared = self.shared
        return shared[index] if index < len(shared) else self.own + index

    def between(self, first: int, last: int, step: int) -> Sequence[int]:
        """Names of the blocks ``first`` to ``last``, less one, each of ``step`` hash blocks."""
        start, stop, shared = (first + 1) * step - 1, last * step, self.shared
        if start >= len(shared):
            return range(self.own + start, self.own + stop, step)
        if stop <= len(shared):
            return shared[start:stop:step]
        return [self.at(index) for index in range(start, stop, step)]


@lru_cache(maxsize=256)
def prefix_keys(prefix: tuple[Segment, ...], hash_block_size: int) -> Sequence[int]:
    """Names of all whole blocks of a prefix; the names of one segment's blocks are consecutive."""
    keys: list[int] = []
    path = start = 0
    for segment in prefix:
        end = start + segment.tokens
        path = hash((path, _stable(segment.id)))
        first = (len(keys) + 1) * hash_block_size
        keys.extend(range(path + first, path + end + 1, hash_block_size))
        path = hash((path, segment.tokens))
        start = end
    return keys


def _stable(name: int | str) -> str:
    """An id as text: Python's hash of -1 is its hash of -2."""
    return f"{name:d}" if isinstance(name, int) else f'"{name}'
