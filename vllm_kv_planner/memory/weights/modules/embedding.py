"""Token embedding and output head, cut by vocabulary, padded as vLLM pads them.

Source: vLLM 0.33 ``layers/vocab_parallel_embedding.py``: the vocabulary is padded to a multiple
of 64, LoRA's added rows padded once more, and the whole divided over the GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator

from ....kv_cache.math import cdiv, round_up
from ....records import dataclass
from ..quantization.base import LinearShape
from ..rank import Place
from ..tensor import Tensor

VOCAB_PADDING = 64


def rows_per_rank(vocab_size: int, tensor_parallel_size: int, padding: int = VOCAB_PADDING) -> int:
    """Rows of the padded vocabulary that one rank holds."""
    return cdiv(round_up(vocab_size, padding), tensor_parallel_size)


@dataclass(frozen=True)
class TokenEmbedding:
    """``VocabParallelEmbedding``.

    Attributes:
        name: As vLLM names it.
        vocab_size: Rows before padding.
        width: Of a row.
        padding: Multiple that the rows are padded to.
        sharded: False where every rank holds all of it (``nn.Embedding``).
        part: Of the weights.
    """

    name: str
    vocab_size: int
    width: int
    padding: int = VOCAB_PADDING
    sharded: bool = True
    part: str = "embedding"

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """The table."""
        size = place.rank.tensor_parallel_size
        rows = rows_per_rank(self.vocab_size, size, self.padding) if self.sharded else None
        inside = place.at(self.name, self.part)
        yield inside.tensor("weight", (self.vocab_size if rows is None else rows, self.width))


@dataclass(frozen=True)
class LMHead:
    """``ParallelLMHead``; where it is tied to the embedding there is no second table.

    Attributes:
        name: As vLLM names it.
        vocab_size: Rows before padding.
        width: Of a row.
        bias: Whether it has one.
        padding: Multiple that the rows are padded to.
    """

    name: str
    vocab_size: int
    width: int
    bias: bool = False
    padding: int = VOCAB_PADDING

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """The table, quantised where the checkpoint says so, and the bias."""
        rank = place.rank
        rows = rows_per_rank(self.vocab_size, rank.tensor_parallel_size, self.padding)
        inside = place.at(self.name, "lm_head")
        method = rank.quantization.lm_head(inside.prefix)
        if method is None:
            yield inside.tensor("weight", (rows, self.width))
        else:
            whole = rows * rank.tensor_parallel_size
            shape = LinearShape(inside.prefix, self.width, (rows,), self.width, whole, rank.dtype)
            for suffix, dimensions, dtype in method.linear(shape):
                yield inside.tensor(suffix, dimensions, dtype)
        if self.bias:
            yield inside.tensor("bias", (rows,))
