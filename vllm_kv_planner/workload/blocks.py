"""The pool of blocks: which are free, in which order they are handed out again, what they hold.

Source: vLLM 0.33 ``v1/core/block_pool.py`` ``BlockPool`` and ``v1/core/kv_cache_utils.py``
``FreeKVCacheBlockQueue``. There, one queue holds all free blocks: blocks that nobody can look up
are put in at the front, blocks with a name at the back, and blocks are taken from the front. So
the queue is always a run of nameless blocks, and behind it the named ones, least recently used
first; that is how it is kept here. Blocks that nobody can look up are alike for every purpose, so
only their number is kept: a block is made when it is handed out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache

from .types import Segment

NOT_HELD = -1


class Block:
    """One block.

    Attributes:
        holders: Requests that hold it beside the first; ``NOT_HELD`` in the queue of named ones.
        key: Its name, None where nobody can look it up.
        home: Where it is looked up: its group's names.
    """

    __slots__ = ("holders", "home", "key")

    def __init__(self) -> None:
        self.holders = 0
        self.key: int | None = None
        self.home: Names | None = None


Names = dict[int, "Block | list[Block]"]
"""Blocks of one group by name; a list, oldest first, where several hold the same tokens."""
Table = list[Block | None]
"""A request's blocks in one group, by position; None is vLLM's null block."""


class Run:
    """So many blocks of a request that has ended, which nobody will look up."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        self.count = count


class BlockPool:
    """The blocks of an engine with prefix caching.

    Attributes:
        free: Blocks that can be handed out, named ones included.
        nameless: Those without a name.
        changes: Grows whenever a request might fit that did not before.
    """

    def __init__(self, num_gpu_blocks: int) -> None:
        self.free = num_gpu_blocks - 1  # the null block is never handed out
        self.changes = 0
        self.nameless = self.free
        self._named: OrderedDict[Block | Run, None] = OrderedDict()

    def take(self, count: int) -> list[Block]:
        """Hand out ``count`` blocks, nameless ones first; named ones lose their name."""
        self.free -= count
        if count == 1 and self.nameless:
            self.nameless -= 1
            return [Block()]
        made = min(count, self.nameless)
        self.nameless -= made
        taken = [Block() for _ in range(made)]
        if made < count:
            self._reuse(count - made, taken)
        return taken

    def _reuse(self, count: int, taken: list[Block]) -> None:
        """Move ``count`` of the named blocks, least recently used first, to ``taken``."""
        named, oldest_one = self._named, self._named.popitem
        while count:
            oldest, _ = oldest_one(last=False)
            if isinstance(oldest, Block):
                evict(oldest)
                oldest.holders = 0
                taken.append(oldest)
                count -= 1
                continue
            used = min(count, oldest.count)
            taken += [Block() for _ in range(used)]
            count -= used
            oldest.count -= used
            if oldest.count:
                named[oldest] = None
                named.move_to_end(oldest, last=False)

    def give_back(self, blocks: Iterable[Block | None]) -> None:
        """Let go of blocks, the one to be reused first first."""
        named, before = self._named, self.free
        for block in blocks:
            if block is None:
                continue
            if block.holders:
                block.holders -= 1
                continue
            self.free += 1
            if block.key is None:
                self.nameless += 1
            else:
                block.holders = NOT_HELD
                named[block] = None
        self.changes += self.free - before

    def give_back_own(self, named: int, nameless: int) -> None:
        """Let go of blocks that only one request held, and nobody will look up.

        ``named`` would have a name, so that they are reused late; ``nameless`` are reused at once.
        """
        if named:
            self._named[Run(named)] = None
        self.nameless += nameless
        self.free += named + nameless
        self.changes += named + nameless

    def hold(self, blocks: Iterable[Block | None]) -> None:
        """Hold blocks that were found by name."""
        for block in blocks:
            if block is None:
                continue
            if block.holders == NOT_HELD:
                del self._named[block]
                self.free -= 1
            block.holders += 1

    def name(self, blocks: Sequence[Block | None], keys: Sequence[int], home: Names) -> None:
        """Make full blocks known under their names; null blocks are passed over."""
        self.changes += 1
        for block, key in zip(blocks, keys, strict=True):
            if block is None:
                continue
            if block.key is not None:
                evict(block)
            block.key = key
            block.home = home
            there = home.get(key)
            if there is None:
                home[key] = block
            elif isinstance(there, list):
                there.append(block)
            else:
                home[key] = [there, block]


def evict(block: Block) -> None:
    """Take a block's name away."""
    key, home = block.key, block.home
    if key is None or home is None:
        return
    block.key = None
    there = home[key]
    if there is not block and isinstance(there, list):
        there.remove(block)
        if there:
            return
    del home[key]


def known(home: Names, key: int) -> Block | None:
    """The block of this name that was named first, None where there is none."""
    there = home.get(key)
    return there[0] if isinstance(there, list) else there


class CountingPool(BlockPool):
    """The blocks of an engine without prefix caching: all alike, so only their number counts."""

    def __init__(self, num_gpu_blocks: int) -> None:
        super().__init__(1)
        self.free = num_gpu_blocks - 1
        self._any = Block()

    def take(self, count: int) -> list[Block]:
        """Hand out ``count`` blocks."""
        self.free -= count
        return [self._any] * count

    def give_back(self, blocks: Iterable[Block | None]) -> None:
        """Let go of blocks."""
        held = list(blocks)
        count = len(held) - held.count(None)
        self.free += count
        self.changes += count


OWN = 1 << 63
"""Names from here on are of tokens that only one request has; hashes are smaller."""
OWN_BITS = 32
"""Names set aside for each request's own blocks: more than any request has tokens."""


class BlockKeys:
    """The names of one request's blocks, by their number.

    vLLM names a block by a hash over all tokens up to the block's end, one name every
    ``hash_block_size`` tokens (0.33 ``kv_cache_utils.get_request_block_hasher``). A trace has no
    tokens, only segments, so the name here is made of the segments up to the block's end. Token
    ``j`` of a segment is the same wherever that segment follows the same ones: segments of one id
    but different lengths share the tokens of the shorter. All other tokens are the request's own.

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
