"""States of Mamba 1 and 2, of short convolutions and of lightning attention.

Source: vLLM 0.33 ``model_executor/layers/mamba/mamba_utils.py`` ``MambaStateShapeCalculator``;
``mamba_mixer.py``, ``mamba_mixer2.py``, ``short_conv.py``, ``linear/base.py``.
"""

from __future__ import annotations

from typing import ClassVar

from ...errors import InputError
from ...records import dataclass
from ..context import CacheContext
from .base import per_rank
from .state import StateLayer, StateTensor, conv_dtype, recurrent_dtype


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
