"""vLLM's layers as far as their tensors go; names follow ``vllm/model_executor/layers``.

Source: vLLM 0.33 ``layers/linear.py``; ``layers/vocab_parallel_embedding.py``: the vocabulary is
padded to a multiple of 64 and divided over the GPUs; ``layers/rotary_embedding/__init__.py``
``get_rope``, which remembers what it made: one cache per distinct rope on a rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

from ...kv_cache.spec import cdiv, round_up
from ...records import dataclass, replace
from .quantization.base import LinearMethod, LinearShape
from .rank import Place, Rank, Tensor


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
        sharded: Index of the dimension that tensor parallelism divides; None: replicated.
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
        variant: Tells ropes of equal size apart (their base differs).
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


def padded_rows(vocab_size: int, rank: Rank) -> int:
    """Rows of the padded vocabulary that one rank holds (``DEFAULT_VOCAB_PADDING_SIZE``)."""
    return cdiv(round_up(vocab_size, 64), rank.tensor_parallel_size)


@dataclass(frozen=True)
class TokenEmbedding:
    """``VocabParallelEmbedding``.

    Attributes:
        sharded: False where every rank holds all of it (``nn.Embedding``).
    """

    name: str
    vocab_size: int
    width: int
    sharded: bool = True
    part: str = "embedding"

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """The table."""
        rows = padded_rows(self.vocab_size, place.rank) if self.sharded else self.vocab_size
        yield place.at(self.name, self.part).tensor("weight", (rows, self.width))


@dataclass(frozen=True)
class LMHead:
    """``ParallelLMHead``; where it is tied to the embedding there is no second table."""

    name: str
    vocab_size: int
    width: int
    bias: bool = False

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """The table, quantised where the checkpoint says so, and the bias."""
        rank, inside = place.rank, place.at(self.name, "lm_head")
        shape = LinearShape(self.width, (padded_rows(self.vocab_size, rank),), rank.dtype)
        yield from _stored(inside, shape, rank.quantization.lm_head(inside.prefix), self.bias)


Shard = Literal["column", "row", "none"]


@dataclass(frozen=True)
class Heads:
    """Widths that are divided by number, and replicated where they are fewer than the GPUs.

    KV heads, Mamba's groups; a single one is what every GPU holds whole.
    """

    count: int
    width: int

    def share(self, size: int) -> int:
        """What each of ``size`` GPUs holds."""
        return max(1, self.count // size) * self.width


@dataclass(frozen=True)
class Linear:
    """A weight matrix, several merged ones, and their bias.

    Attributes:
        inputs: Width of what comes in, of the whole model.
        outputs: Width of what goes out; one entry per merged matrix.
        shard: ``column`` divides outputs over the GPUs, ``row`` inputs, ``none`` nothing.
        quantised: False where vLLM builds it without the quantisation config.
        dtype: Of the weights, where the layer does not follow the engine's.
        align: What a GPU's rows are padded to a multiple of.
        takes_lora: Adapters may change it.
    """

    name: str
    inputs: int
    outputs: tuple[int | Heads, ...]
    shard: Shard = "column"
    bias: bool = False
    quantised: bool = True
    dtype: str | None = None
    align: int = 1
    takes_lora: bool = True

    def shape(self, rank: Rank) -> LinearShape:
        """What the rank holds of it."""
        size = rank.tensor_parallel_size
        columns = size if self.shard == "column" else 1
        outputs = tuple(
            width.share(columns) if isinstance(width, Heads) else cdiv(width, columns)
            for width in self.outputs
        )
        if padding := -sum(outputs) % self.align:
            outputs = (*outputs, padding)
        inputs = cdiv(self.inputs, size if self.shard == "row" else 1)
        return LinearShape(inputs, outputs, self.dtype or rank.dtype)

    def tensors(self, place: Place) -> Iterator[Tensor]:
        """Weights by the quantisation method's rule, and the bias."""
        inside, rank = place.at(self.name), place.rank
        method = rank.quantization.linear(inside.prefix) if self.quantised else None
        return _stored(inside, self.shape(rank), method, self.bias)


def _stored(
    inside: Place, shape: LinearShape, method: LinearMethod | None, bias: bool
) -> Iterator[Tensor]:
    if method is None:
        yield inside.tensor("weight", (shape.rows, shape.inputs), shape.dtype)
    else:
        for suffix, dimensions, dtype in method.linear(shape):
            yield inside.tensor(suffix, dimensions, dtype)
    if bias:
        yield inside.tensor("bias", (shape.rows,), shape.dtype)


def qkv_linear(
    name: str,
    inputs: int,
    heads: int,
    kv_heads: int,
    head_size: int,
    *,
    bias: bool = False,
    quantised: bool = True,
) -> Linear:
    """``QKVParallelLinear``: queries, keys and values in one matrix."""
    kv = Heads(kv_heads, head_size)
    return Linear(name, inputs, (heads * head_size, kv, kv), bias=bias, quantised=quantised)


def attention_pair(
    qkv: str, out: str, hidden: int, heads: int, *, size: int | None = None, bias: bool = False
) -> tuple[Linear, Linear]:
    """Self-attention of an encoder: as many KV heads as queries, ``hidden`` in and out."""
    size = hidden // heads if size is None else size
    return (
        qkv_linear(qkv, hidden, heads, heads, size, bias=bias),
        Linear(out, heads * size, (hidden,), "row", bias=bias),
    )


def mlp_pair(
    up: str,
    down: str,
    hidden: int,
    inner: int,
    *,
    out: int | None = None,
    gated: bool = False,
    bias: bool = False,
) -> tuple[Linear, Linear]:
    """An MLP or a projector: up to ``inner``, with a gate beside where there is one, and down."""
    return (
        Linear(up, hidden, (inner, inner) if gated else (inner,), bias=bias),
        Linear(down, inner, (hidden if out is None else out,), "row", bias=bias),
    )


def unquantised(block: Block) -> Block:
    """The block with linear layers that keep the model's dtype, whatever the checkpoint says."""
    children = (
        unquantised(child)
        if isinstance(child, Block)
        else replace(child, quantised=False)
        if isinstance(child, Linear)
        else child
        for child in block.children
    )
    return replace(block, children=tuple(children))
