"""vLLM's layers as far as their tensors go; names follow ``vllm/model_executor/layers``.

Source: vLLM 0.33 ``layers/linear.py``; ``layers/vocab_parallel_embedding.py``: the vocabulary is
padded to a multiple of 64 and divided over the GPUs; ``layers/rotary_embedding/__init__.py``
``get_rope``, which remembers what it made: one cache per distinct rope on a rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

from ...kv_cache.spec import cdiv, round_up
from ...records import dataclass
from .quantization.base import LinearShape
from .rank import Place, Tensor


class Module(Protocol):
    """A layer of vLLM, or a tree of them."""

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """What it registers on this rank; ``place`` is its parent's."""
        ...


@dataclass(frozen=True)
class Block:
    """Modules under one name, such as ``self_attn``.

    Attributes:
        name: Empty where the modules lie directly in the parent.
        children: In vLLM's order.
        part: Name of the part that the children belong to, where it changes here.
        is_tower: Shared by as many GPUs as ``--mm-encoder-tp-mode`` says.
        heads: Of a tower that every GPU holds whole where its heads cannot be divided.
    """

    name: str
    children: tuple[Module, ...]
    part: str | None = None
    is_tower: bool = False
    heads: int = 0

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """The children's."""
        inside = place.at(self.name, self.part)
        if self.is_tower:
            inside = Place(inside.rank.for_tower(self.heads), inside.prefix, inside.part)
        for child in self.children:
            yield from child.tensors(inside)


@dataclass(frozen=True)
class Weight:
    """A parameter or buffer as it is; nothing of it is quantised.

    Attributes:
        name: With its suffix: ``conv1d.weight``.
        shape: Of the whole model's.
        sharded: Index of the dimension that tensor parallelism divides; None: replicated.
        dtype: None for the engine's.
        shared: The same tensor wherever this key comes up on a rank.
    """

    name: str
    shape: tuple[int, ...]
    sharded: int | None = None
    dtype: str | None = None
    shared: object | None = None

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """The one tensor."""
        shape = self.shape
        if self.sharded is not None:
            parts = list(shape)
            # fewer rows than GPUs: every GPU holds one (heads that are replicated)
            parts[self.sharded] = max(1, parts[self.sharded] // place.rank.tensor_parallel_size)
            shape = tuple(parts)
        yield place.tensor(self.name, shape, self.dtype, self.shared)


@dataclass(frozen=True)
class Norm:
    """``RMSNorm``; with a bias ``LayerNorm``. Replicated."""

    name: str
    size: int
    bias: bool = False
    part: str = "norms"

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """Weight, and bias."""
        inside = place.at(self.name, self.part)
        yield inside.tensor("weight", (self.size,))
        if self.bias:
            yield inside.tensor("bias", (self.size,))


@dataclass(frozen=True)
class AttentionScales:
    """What ``Attention`` and ``MLAAttention`` register: float32 scales, and the KV cache method's.

    Source: vLLM 0.33 ``layers/attention/attention.py`` ``set_default_quant_scales``,
    ``layers/quantization/kv_cache.py`` ``BaseKVCacheMethod.create_weights``.

    Attributes:
        name: As vLLM names the layer; empty where the scales lie in the block itself.
        is_latent: ``MLAAttention``, which some methods give no scales.
    """

    name: str = "attn"
    is_latent: bool = False

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """Four buffers of one element, and what a quantised checkpoint may bring."""
        inside = place.at(self.name)
        for scale in ("_k_scale", "_v_scale", "_q_scale", "_prob_scale"):
            yield inside.tensor(scale, (), "float32")
        for suffix, shape, dtype in place.rank.quantization.attention(is_latent=self.is_latent):
            yield inside.tensor(suffix, shape, dtype)


@dataclass(frozen=True)
class Rotary:
    """``cos_sin_cache``.

    Attributes:
        rows: Positions.
        width: Rotary dimensions.
        dtype: None for the engine's.
        variant: Tells ropes of equal size apart (their base differs).
        name: As vLLM names the layer.
    """

    rows: int
    width: int
    dtype: str | None = None
    variant: str = ""
    name: str = "rotary_emb"

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """The cache, shared over the rank."""
        inside = place.at(self.name, "rotary")
        yield inside.tensor("cos_sin_cache", (self.rows, self.width), self.dtype, self)


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
