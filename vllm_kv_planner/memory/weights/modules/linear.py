"""Linear layers, cut by tensor parallelism as vLLM cuts them.

Source: vLLM 0.33 ``layers/linear.py``: ``ReplicatedLinear``, ``ColumnParallelLinear``,
``MergedColumnParallelLinear``, ``QKVParallelLinear``, ``RowParallelLinear``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from ....kv_cache.math import cdiv
from ....records import dataclass
from ..quantization.base import LinearShape
from ..rank import Place
from ..tensor import Tensor

Shard = Literal["column", "row", "none"]


@dataclass(frozen=True)
class Linear:
    """A weight matrix, several merged ones, and their bias.

    Attributes:
        name: As vLLM names it.
        inputs: Width of what comes in, of the whole model.
        outputs: Width of what goes out; one number per merged matrix.
        shard: ``column`` divides outputs over the GPUs, ``row`` inputs, ``none`` nothing.
        bias: Whether it has one.
        quantised: False where vLLM builds it without the quantisation config.
        dtype: Of the weights, where the layer does not follow the engine's.
        replicated: Widths of merged matrices that no GPU divides, beside the others.
        align: What a GPU's rows are padded to a multiple of.
    """

    name: str
    inputs: int
    outputs: tuple[int, ...]
    shard: Shard = "column"
    bias: bool = False
    quantised: bool = True
    dtype: str | None = None
    replicated: tuple[int, ...] = ()
    align: int = 1

    def shape(self, place: Place) -> LinearShape:
        """What the rank holds of it."""
        size = place.rank.tensor_parallel_size
        columns = size if self.shard == "column" else 1
        rows = size if self.shard == "row" else 1
        outputs = (*(cdiv(width, columns) for width in self.outputs), *self.replicated)
        if padding := -sum(outputs) % self.align:
            outputs = (*outputs, padding)
        return LinearShape(
            prefix=place.prefix,
            inputs=cdiv(self.inputs, rows),
            outputs=outputs,
            whole_inputs=self.inputs,
            whole_outputs=sum(self.outputs) + sum(self.replicated),
            dtype=self.dtype or place.rank.dtype,
        )

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """Weights by the quantisation method's rule, and the bias."""
        return _tensors(self.shape(place.at(self.name)), place.at(self.name), self)


@dataclass(frozen=True)
class QKVLinear:
    """Queries, keys and values in one matrix; KV heads fewer than GPUs are replicated.

    Attributes:
        name: As vLLM names it.
        inputs: Width of the hidden state.
        heads: Query heads of the whole model.
        kv_heads: KV heads of the whole model.
        head_size: Width of a query and key head.
        v_head_size: Width of a value head, where it differs.
        bias: Whether it has one.
        quantised: False where vLLM builds it without the quantisation config.
        dtype: Of the weights, where the layer does not follow the engine's.
    """

    name: str
    inputs: int
    heads: int
    kv_heads: int
    head_size: int
    v_head_size: int | None = None
    bias: bool = False
    quantised: bool = True
    dtype: str | None = None

    def shape(self, place: Place) -> LinearShape:
        """What the rank holds of it."""
        size = place.rank.tensor_parallel_size
        kv_heads = max(1, self.kv_heads // size)
        v_head_size = self.head_size if self.v_head_size is None else self.v_head_size
        outputs = (
            cdiv(self.heads, size) * self.head_size,
            kv_heads * self.head_size,
            kv_heads * v_head_size,
        )
        return LinearShape(
            prefix=place.prefix,
            inputs=self.inputs,
            outputs=outputs,
            whole_inputs=self.inputs,
            whole_outputs=sum(outputs) * size,
            dtype=self.dtype or place.rank.dtype,
        )

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """Weights by the quantisation method's rule, and the bias."""
        return _tensors(self.shape(place.at(self.name)), place.at(self.name), self)


def _tensors(shape: LinearShape, inside: Place, layer: Linear | QKVLinear) -> Iterator[Tensor]:
    method = inside.rank.quantization.linear(shape.prefix) if layer.quantised else None
    if method is None:
        yield inside.tensor("weight", (sum(shape.outputs), shape.inputs), shape.dtype)
    else:
        for suffix, dimensions, dtype in method.linear(shape):
            yield inside.tensor(suffix, dimensions, dtype)
    if layer.bias:
        yield inside.tensor("bias", (sum(shape.outputs),), shape.dtype)
