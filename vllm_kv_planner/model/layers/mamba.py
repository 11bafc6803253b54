"""States of fixed size: Mamba 1 and 2, short convolutions, lightning attention.

A state is a few tensors. What a layer stores in one block is their bytes together, however many
tokens the block stands for.

Source: vLLM 0.33 ``model_executor/layers/mamba/mamba_utils.py`` ``MambaStateShapeCalculator``,
``MambaStateDtypeCalculator``; ``mamba/abstract.py`` ``MambaBase``; ``mamba_mixer.py``,
``mamba_mixer2.py``, ``short_conv.py``, ``linear/base.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import lcm, prod
from typing import ClassVar

from ...errors import InputError
from ...kv_cache.specs import KVCacheSpec, MambaSpec
from ...records import dataclass
from .base import DTYPE_BYTES, Backend, CacheContext, CacheLayer, per_rank

StateTensor = tuple[tuple[int, ...], str]
"""Shape on one rank and dtype of one tensor of a state."""


@dataclass(frozen=True, kw_only=True)
class StateLayer(CacheLayer):
    """What every layer with a state has; subclasses say which tensors.

    Attributes:
        kernel: vLLM's name of the kind (``MambaAttentionBackendEnum``); kinds do not merge.
        tp_replicated: Every tensor-parallel rank holds the whole state.
        exports_checkpoints: The class can export a state inside a prefill, in this version.
    """

    kernel: ClassVar[str] = "state"
    tp_replicated: ClassVar[bool] = False

    exports_checkpoints: bool = True

    def tensors(self, context: CacheContext) -> tuple[StateTensor, ...]:
        """The state's tensors on one rank."""
        raise TypeError(f"{type(self).__name__} says nothing of its state")

    def state_bytes(self, context: CacheContext) -> int:
        """Bytes of one state on one rank, unpadded."""
        return sum(prod(shape) * DTYPE_BYTES[dtype] for shape, dtype in self.tensors(context))

    def checkpoint_alignment(self, context: CacheContext) -> int | None:
        """Token grid of the checkpoints it exports inside a prefill; block sizes keep to it."""
        return None

    def prefill_checkpoints(self, context: CacheContext) -> tuple[int, int | None]:
        """States exported inside a prefill, and the token grid the scheduler holds them to."""
        if self.checkpoint_alignment(context) is None:
            return 0, None
        return 1, context.mamba_block_size

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """One state a block; the page is padded where attention shares the blocks."""
        exported = self.prefill_checkpoints(context) if self.exports_checkpoints else (0, None)
        blocks, grid = exported
        return MambaSpec(
            block_size=context.mamba_block_size,
            page_size_padded=context.mamba_page_size_padded,
            state_bytes=self.state_bytes(context),
            num_speculative_blocks=context.num_speculative_tokens,
            num_prefill_checkpoint_blocks=blocks,
            prefill_checkpoint_alignment=grid,
            variant=f"{self.kernel} {self.tensors(context)}",
            tp_replicated=self.tp_replicated,
        )


def largest_state_bytes(layers: Iterable[CacheLayer], context: CacheContext) -> int:
    """Bytes of the largest state of the model: what hybrids align their attention pages to."""
    states = (layer.state_bytes(context) for layer in layers if isinstance(layer, StateLayer))
    return max(states, default=0)


def common_checkpoint_alignment(layers: Iterable[CacheLayer], context: CacheContext) -> int:
    """Tokens that align mode keeps blocks a multiple of; 1 unless every state has a grid.

    Source: ``mamba/abstract.py`` ``get_mamba_prefill_checkpoint_alignment``.
    """
    alignment = 1
    for layer in layers:
        if isinstance(layer, StateLayer):
            own = layer.checkpoint_alignment(context)
            if own is None:
                return 1
            alignment = lcm(alignment, own)
    return alignment


def conv_dtype(context: CacheContext) -> str:
    """Dtype of convolution states: ``--mamba-cache-dtype``, else the model's."""
    chosen = context.mamba_cache_dtype
    return context.dtype if chosen == "auto" else chosen


def recurrent_dtype(context: CacheContext) -> str:
    """Dtype of recurrent states: ``--mamba-ssm-cache-dtype``, else the convolution's."""
    chosen = context.mamba_ssm_cache_dtype
    return conv_dtype(context) if chosen == "auto" else chosen


@dataclass(frozen=True, kw_only=True)
class Mamba1(StateLayer):
    """Selective state space (Mamba, Falcon-Mamba, Jamba).

    Attributes:
        intermediate_size: Channels, of the whole model.
        state_size: Recurrent values per channel.
        conv_kernel: Taps of the causal convolution.
    """

    kernel: ClassVar[str] = "MAMBA1"

    intermediate_size: int
    state_size: int
    conv_kernel: int

    def tensors(self, context: CacheContext) -> tuple[StateTensor, ...]:
        """Last inputs of the convolution; the recurrent state."""
        channels = per_rank(self.intermediate_size, context, "Mamba channels")
        return (
            ((self.conv_kernel - 1, channels), conv_dtype(context)),
            ((channels, self.state_size), recurrent_dtype(context)),
        )


@dataclass(frozen=True, kw_only=True)
class Mamba2(StateLayer):
    """State space with heads and groups (Mamba 2, Nemotron-H, Granite 4, Falcon-H1, Zamba 2).

    Attributes:
        intermediate_size: Channels, of the whole model.
        n_groups: Groups of heads that share B and C.
        num_heads: Heads, of the whole model.
        head_dim: Channels of a head.
        state_size: Recurrent values per channel.
        conv_kernel: Taps of the causal convolution.
    """

    kernel: ClassVar[str] = "MAMBA2"

    intermediate_size: int
    n_groups: int
    num_heads: int
    head_dim: int
    state_size: int
    conv_kernel: int

    def tensors(self, context: CacheContext) -> tuple[StateTensor, ...]:
        """Convolution over channels, B and C (draft tokens included); one state per head."""
        ranks = context.tensor_parallel_size
        groups = self.n_groups
        if groups % ranks:
            if groups != 1:
                raise InputError(
                    f"--tensor-parallel-size {ranks}: must divide the model's {groups} Mamba groups"
                )
            groups = ranks  # one group, a copy on every rank
        channels = self.intermediate_size + 2 * groups * self.state_size
        conv = per_rank(channels, context, "Mamba convolution channels")
        heads = per_rank(self.num_heads, context, "Mamba heads")
        taps = self.conv_kernel - 1 + context.num_speculative_tokens
        return (
            ((taps, conv), conv_dtype(context)),
            ((heads, self.head_dim, self.state_size), recurrent_dtype(context)),
        )

    def prefill_checkpoints(self, context: CacheContext) -> tuple[int, int | None]:
        """One, at any token (``MambaMixer2.get_kv_cache_spec``)."""
        return 1, 1


@dataclass(frozen=True, kw_only=True)
class ShortConv(StateLayer):
    """Short causal convolution (LFM2).

    Attributes:
        channels: Channels, of the whole model.
        conv_kernel: Taps of the convolution.
    """

    kernel: ClassVar[str] = "SHORT_CONV"

    channels: int
    conv_kernel: int

    def tensors(self, context: CacheContext) -> tuple[StateTensor, ...]:
        """The convolution's last inputs."""
        taps = self.conv_kernel - 1 + context.num_speculative_tokens
        channels = per_rank(self.channels, context, "convolution channels")
        return (((taps, channels), conv_dtype(context)),)


@dataclass(frozen=True, kw_only=True)
class LinearAttention(StateLayer):
    """Lightning attention: one matrix per head (MiniMax-Text-01, Bailing 2.5).

    Attributes:
        num_heads: Heads, of the whole model.
        head_dim: Rows and columns of a head's matrix.
    """

    kernel: ClassVar[str] = "LINEAR"

    num_heads: int
    head_dim: int

    def tensors(self, context: CacheContext) -> tuple[StateTensor, ...]:
        """A matrix per head."""
        heads = per_rank(self.num_heads, context, "linear attention heads")
        return (((heads, self.head_dim, self.head_dim), conv_dtype(context)),)
