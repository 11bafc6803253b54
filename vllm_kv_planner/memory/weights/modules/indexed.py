"""Queries, keys and values with an index's own beside them, in one matrix (MiniMax-M3)."""

from __future__ import annotations

from collections.abc import Iterator

from ....records import dataclass
from ..quantization.base import LinearShape
from ..rank import Place
from ..tensor import Tensor


@dataclass(frozen=True)
class IndexedQKV:
    """Index queries are divided like KV heads, the one index key is replicated.

    Attributes:
        name: As vLLM names it.
        inputs: Width of the hidden state.
        heads: Query heads of the whole model.
        kv_heads: KV heads of the whole model.
        head_size: Width of a head.
        index_heads: Index queries of the whole model.
        index_size: Width of an index query and key.
    """

    name: str
    inputs: int
    heads: int
    kv_heads: int
    head_size: int
    index_heads: int
    index_size: int

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """Weights by the quantisation method's rule."""
        inside = place.at(self.name)
        size = place.rank.tensor_parallel_size
        kv = max(1, self.kv_heads // size) * self.head_size
        index = max(1, self.index_heads // size) * self.index_size
        outputs = (self.heads // size * self.head_size, kv, kv, index, self.index_size)
        shape = LinearShape(
            inside.prefix, self.inputs, outputs, self.inputs, sum(outputs) * size, place.rank.dtype
        )
        method = place.rank.quantization.linear(inside.prefix)
        if method is None:
            yield inside.tensor("weight", (sum(outputs), self.inputs))
        else:
            for suffix, dimensions, dtype in method.linear(shape):
                yield inside.tensor(suffix, dimensions, dtype)
