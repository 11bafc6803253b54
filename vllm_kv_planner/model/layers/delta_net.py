"""Layers with a delta-rule state: gated delta nets (Qwen3-Next and on) and Kimi's delta attention.

Source: vLLM 0.33 ``mamba_utils.py`` ``gated_delta_net_state_shape``, ``kda_state_shape``;
``mamba/gdn/qwen_gdn_linear_attn.py``.
"""

from __future__ import annotations

from typing import ClassVar

from ...errors import InputError
from ...records import dataclass
from .base import CacheContext, per_rank
from .mamba import StateLayer, StateTensor, conv_dtype, recurrent_dtype

FLASHINFER_CHECKPOINT_GRID = 64
"""Tokens between states that FlashInfer's prefill can export (``gdn_attn.py``)."""


@dataclass(frozen=True, kw_only=True)
class GatedDeltaNet(StateLayer):
    """Gated delta net: a convolution over queries, keys and values, a matrix per value head.

    Attributes:
        num_key_heads: Key (and query) heads, of the whole model.
        num_value_heads: Value heads, of the whole model.
        key_head_dim: Width of a key.
        value_head_dim: Width of a value.
        conv_kernel: Taps of the convolution.
    """

    kernel: ClassVar[str] = "GDN_ATTN"

    num_key_heads: int
    num_value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel: int

    def tensors(self, context: CacheContext) -> tuple[StateTensor, ...]:
        """The convolution's last inputs; a value x key matrix per value head."""
        keys = self.key_head_dim * self.num_key_heads
        channels = 2 * keys + self.value_head_dim * self.num_value_heads
        conv = per_rank(channels, context, "delta net convolution channels")
        heads = per_rank(self.num_value_heads, context, "delta net value heads")
        per_rank(self.num_key_heads, context, "delta net key heads")
        taps = self.conv_kernel - 1 + context.num_speculative_tokens
        return (
            ((taps, conv), conv_dtype(context)),
            ((heads, self.value_head_dim, self.key_head_dim), recurrent_dtype(context)),
        )

    def checkpoint_alignment(self, context: CacheContext) -> int | None:
        """FlashInfer's grid, in align mode, where its prefill kernel runs.

        On Hopper always; on Blackwell (10.x, 12.x; CUDA 13) with keys 128 wide.
        """
        if not self.exports_checkpoints or context.mamba_cache_mode != "align":
            return None
        major, minor = context.compute_capability
        blackwell = major in (10, 12) and self.key_head_dim == 128
        return FLASHINFER_CHECKPOINT_GRID if (major, minor) == (9, 0) or blackwell else None


FLASH_KDA_CHECKPOINT_GRID = 16
"""Tokens between states that FlashKDA's prefill can export (``kda_checkpoint.py``)."""


@dataclass(frozen=True, kw_only=True)
class KimiDeltaAttention(StateLayer):
    """Kimi delta attention: keys as many and as wide as values, the state in float32.

    Attributes:
        num_heads: Heads, of the whole model.
        head_dim: Width of a key and of a value.
        conv_kernel: Taps of the convolution.
        has_flash_prefill: Its class runs FlashKDA where it can (Kimi-K3, GLM-5.3-Flash).
        gate_is_bounded: The gate has a lower bound, which FlashKDA needs.
        heeds_ssm_dtype: Its class heeds ``--mamba-ssm-cache-dtype``.
    """

    kernel: ClassVar[str] = "KDA"

    num_heads: int
    head_dim: int
    conv_kernel: int
    has_flash_prefill: bool = False
    gate_is_bounded: bool = False
    heeds_ssm_dtype: bool = False

    def tensors(self, context: CacheContext) -> tuple[StateTensor, ...]:
        """The convolution's last inputs; a square matrix per head."""
        heads = per_rank(self.num_heads, context, "delta attention heads")
        taps = self.conv_kernel - 1 + context.num_speculative_tokens
        return (
            ((taps, 3 * heads * self.head_dim), conv_dtype(context)),
            ((heads, self.head_dim, self.head_dim), self.state_dtype(context)),
        )

    def state_dtype(self, context: CacheContext) -> str:
        """float32, unless the class lets the user choose bfloat16."""
        chosen = context.mamba_ssm_cache_dtype
        if not self.heeds_ssm_dtype or chosen == "auto":
            return "float32"
        if chosen not in ("float32", "bfloat16"):
            raise InputError(
                f"--mamba-ssm-cache-dtype {chosen}: Kimi delta attention keeps auto, float32 or "
                "bfloat16"
            )
        return chosen

    def prefill_checkpoints(self, context: CacheContext) -> tuple[int, int | None]:
        """One, every 16 tokens, where FlashKDA runs: bf16, heads 128 wide, a bounded gate."""
        runs = (
            self.has_flash_prefill
            and self.gate_is_bounded
            and context.compute_capability[0] in (9, 10, 12)
            and self.head_dim == 128
            and context.dtype == "bfloat16"
        )
        return (1, FLASH_KDA_CHECKPOINT_GRID) if runs else (0, None)


@dataclass(frozen=True, kw_only=True)
class NgramConv(StateLayer):
    """Dilated short convolution of n-gram embeddings (Qwen4's PLE), whole on every rank.

    Source: vLLM 0.33 ``models/qwen4_exp/nvidia/ple_layer.py`` ``Qwen4ExpPLELayer``.

    Attributes:
        channels: Channels.
        state_length: Inputs the convolution looks back on.
        beside: The model's delta net: checkpoints need one grid for all states.
    """

    kernel: ClassVar[str] = "SHORT_CONV"
    tp_replicated: ClassVar[bool] = True

    channels: int
    state_length: int
    beside: GatedDeltaNet | None = None

    def tensors(self, context: CacheContext) -> tuple[StateTensor, ...]:
        """The convolution's last inputs."""
        length = self.state_length + context.num_speculative_tokens
        return (((length, self.channels), conv_dtype(context)),)

    def checkpoint_alignment(self, context: CacheContext) -> int | None:
        """Any token, in align mode."""
        return 1 if context.mamba_cache_mode == "align" else None

    def prefill_checkpoints(self, context: CacheContext) -> tuple[int, int | None]:
        """Only where the delta nets export theirs."""
        if self.beside is not None and self.beside.checkpoint_alignment(context) is None:
            return 0, None
        return super().prefill_checkpoints(context)
