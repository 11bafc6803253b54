"""Layers that keep a state of fixed size: Mamba, gated delta nets, linear attention, short conv.

A state is a few tensors. What a layer stores in one block is their bytes together, however many
tokens the block stands for.

Source: vLLM 0.33 ``model_executor/layers/mamba/mamba_utils.py`` ``MambaStateShapeCalculator``,
``MambaStateDtypeCalculator``; ``mamba/abstract.py`` ``MambaBase``.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import lcm, prod
from typing import ClassVar

from ...kv_cache.specs import KVCacheSpec, MambaSpec
from ...records import dataclass
from ..context import Backend, CacheContext
from ..dtypes import DTYPE_BYTES
from .base import CacheLayer

StateTensor = tuple[tuple[int, ...], str]
"""Shape on one rank and dtype of one tensor of a state."""


@dataclass(frozen=True, kw_only=True)
class StateLayer(CacheLayer):
    """What every layer with a state has; subclasses say which tensors.

    Attributes:
        kernel: vLLM's name of the kind (``MambaAttentionBackendEnum``); kinds do not merge.
        tp_replicated: Every tensor-parallel rank holds the whole state.
    """

    kernel: ClassVar[str] = "state"
    tp_replicated: ClassVar[bool] = False

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
        blocks, grid = self.prefill_checkpoints(context)
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
