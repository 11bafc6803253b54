"""Inkling's caches: attention in blocks of one size, and short convolutions kept as windows.

Source: vLLM 0.33 ``models/inkling/nvidia/attention.py``, ``sconv_swa_attn.py``.
"""

from __future__ import annotations

from ...errors import InputError
from ...kv_cache.math import next_power_of_two
from ...kv_cache.specs import AttentionSpec, KVCacheSpec, SlidingWindowSpec
from ...records import dataclass
from ..context import Backend, CacheContext
from .attention import Attention
from .base import CacheLayer, as_packed, per_rank

BFLOAT16 = 2


@dataclass(frozen=True, kw_only=True)
class InklingAttention(Attention):
    """Full or windowed attention; windows keep the model's block size."""

    def layer_kv_cache_dtype(self, context: CacheContext) -> str:
        """The engine's, skipped layers or not."""
        return context.kv_cache_dtype

    def windowed(
        self, context: CacheContext, backend: Backend | None, window: int
    ) -> AttentionSpec:
        """A window in blocks of the engine's size."""
        spec = SlidingWindowSpec(
            block_size=context.block_size, sliding_window=window, **self.stored(context)
        )
        return as_packed(spec, backend)


@dataclass(frozen=True, kw_only=True)
class ConvWindow(CacheLayer):
    """Inputs of a layer's four short convolutions (keys, values, both outputs), kept as a window.

    Attributes:
        num_kv_heads: KV heads of the whole model: the convolutions are dealt out with them.
        head_dim: Width of a key.
        hidden_size: Width of an output.
        conv_kernel: Taps of the convolutions: window and block size.
    """

    num_kv_heads: int
    head_dim: int
    hidden_size: int
    conv_kernel: int

    def fixed_backend(self, context: CacheContext) -> str | None:
        """Always its own."""
        return "INKLING_SCONV_SWA"

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """Per KV head a row of key, value and its share of both outputs, a power of two wide."""
        if context.dtype != "bfloat16":
            raise InputError(f"--dtype {context.dtype}: Inkling's convolutions need bfloat16")
        row = 2 * self.head_dim + 2 * (self.hidden_size // self.num_kv_heads)
        spec = SlidingWindowSpec(
            block_size=self.conv_kernel,
            num_kv_heads=per_rank(self.num_kv_heads, context, "KV heads"),
            head_size=next_power_of_two(row),
            head_size_v=0,
            dtype_bytes=BFLOAT16,
            sliding_window=self.conv_kernel,
        )
        return as_packed(spec, backend)
