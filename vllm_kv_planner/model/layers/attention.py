"""Layers with keys and values: full, sliding window, chunked, cross and encoder-only.

Source: vLLM 0.33 ``model_executor/layers/attention/attention.py`` ``Attention`` and its
neighbours ``chunked_local_attention.py``, ``cross_attention.py``, ``encoder_only_attention.py``;
``models/inkling/nvidia/attention.py``, ``sconv_swa_attn.py``.
"""

from __future__ import annotations

from typing import TypedDict

from ...errors import InputError
from ...kv_cache.spec import next_power_of_two
from ...kv_cache.specs import (
    AttentionSpec,
    ChunkedLocalAttentionSpec,
    CrossAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    SlidingWindowSpec,
)
from ...records import dataclass
from .base import (
    Backend,
    BackendRequest,
    CacheContext,
    CacheLayer,
    as_packed,
    kv_cache_element_bytes,
    per_rank,
)


class Stored(TypedDict):
    """What every kind of attention keeps of a token on one rank."""

    num_kv_heads: int
    head_size: int
    head_size_v: int
    dtype_bytes: int
    kv_cache_dtype: str


@dataclass(frozen=True, kw_only=True)
class Attention(CacheLayer):
    """Multi-head, grouped-query or multi-query attention.

    Attributes:
        num_heads: Query heads of the whole model.
        num_kv_heads: KV heads of the whole model.
        head_size: Width of a key, in elements.
        head_size_v: Width of a value; None where it is the key's.
        sliding_window: Tokens it looks back on; None for all.
        attention_chunk_size: Tokens of one chunk (Llama 4); None for no chunks.
        attn_type: ``decoder``, ``encoder_only``, ``encoder_decoder`` (cross-attention).
        has_sink: Learned sinks.
        use_mm_prefix: Images attend in both directions.
        use_per_head_quant_scales: The checkpoint's KV scales are per head.
        kv_sharing: It reads another layer's cache and keeps none.
        no_cache_config: Its class passes no cache config: unquantised whatever is asked for.
        heeds_skip_layers: Whether ``--kv-cache-dtype-skip-layers`` means its class too.
    """

    num_heads: int
    num_kv_heads: int
    head_size: int
    head_size_v: int | None = None
    sliding_window: int | None = None
    attention_chunk_size: int | None = None
    attn_type: str = "decoder"
    has_sink: bool = False
    use_mm_prefix: bool = False
    use_per_head_quant_scales: bool = False
    kv_sharing: bool = False
    no_cache_config: bool = False
    heeds_skip_layers: bool = True

    def kv_heads_per_rank(self, context: CacheContext) -> int:
        """KV heads on one rank: divided by TP, replicated once there are fewer than ranks."""
        return max(1, self.num_kv_heads // context.tensor_parallel_size)

    def layer_kv_cache_dtype(self, context: CacheContext) -> str:
        """The layer's own KV dtype: skipped layers stay in the model's."""
        if self.no_cache_config:
            return "auto"
        if not self.heeds_skip_layers:
            return context.kv_cache_dtype
        skip = context.kv_cache_dtype_skip_layers
        windowed = self.sliding_window is not None and "sliding_window" in skip
        return "auto" if windowed or str(self.index) in skip else context.kv_cache_dtype

    def backend_request(self, context: CacheContext) -> BackendRequest | None:
        """As ``Attention.__init__`` asks for it."""
        return BackendRequest(
            head_size=self.head_size,
            head_size_v=self.head_size_v,
            dtype=context.dtype,
            kv_cache_dtype=self.layer_kv_cache_dtype(context),
            num_heads=max(1, self.num_heads // context.tensor_parallel_size),
            num_kv_heads=self.kv_heads_per_rank(context),
            has_sink=self.has_sink,
            has_sliding_window=self.sliding_window is not None,
            use_mm_prefix=self.use_mm_prefix,
            use_per_head_quant_scales=self.use_per_head_quant_scales,
            attn_type=self.attn_type,
        )

    def stored(self, context: CacheContext) -> Stored:
        """What is kept of a token."""
        kv_cache_dtype = self.layer_kv_cache_dtype(context)
        return {
            "num_kv_heads": self.kv_heads_per_rank(context),
            "head_size": self.head_size,
            "head_size_v": self.head_size if self.head_size_v is None else self.head_size_v,
            "dtype_bytes": kv_cache_element_bytes(kv_cache_dtype, context.dtype),
            "kv_cache_dtype": kv_cache_dtype,
        }

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec | None:
        """The spec that fits the layer's window, chunk and type, as the backend packs it."""
        if self.kv_sharing or self.attn_type in ("encoder_only", "encoder"):
            return None
        common = self.stored(context)
        spec: AttentionSpec
        if self.attn_type == "encoder_decoder":
            spec = CrossAttentionSpec(block_size=context.block_size, **common)
        elif self.attention_chunk_size is not None:
            spec = ChunkedLocalAttentionSpec(
                block_size=context.block_size,
                attention_chunk_size=self.attention_chunk_size,
                **common,
            )
        elif self.sliding_window is not None:
            return self.windowed(context, backend, self.sliding_window)
        else:
            spec = FullAttentionSpec(block_size=context.block_size, **common)
        return spec if backend is None else backend.customize(spec)

    def windowed(
        self, context: CacheContext, backend: Backend | None, window: int
    ) -> AttentionSpec:
        """A window layer picks its own block: the largest its kernels run within a full page."""
        common = self.stored(context)
        shared = context.skip_page_size_padded
        spec = SlidingWindowSpec(block_size=1, sliding_window=window, **common)
        if backend is None:
            return SlidingWindowSpec(block_size=context.block_size, sliding_window=window, **common)
        per_token = backend.customize(spec).unpadded_page_size_bytes
        block_size = backend.largest_kernel_block(
            per_token, shared or per_token * context.block_size, context.block_size
        )
        return backend.customize(
            SlidingWindowSpec(
                block_size=block_size, sliding_window=window, page_size_padded=shared, **common
            )
        )


@dataclass(frozen=True, kw_only=True)
class DiffKVAttention(Attention):
    """Attention whose values differ in width from its keys: its class picks the backend.

    Source: vLLM 0.33 ``model_executor/models/mimo_v2.py`` ``MiMoV2Attention``;
    ``v1/attention/backends/fa_utils.py`` ``get_flash_attn_version``.
    """

    def fixed_backend(self, context: CacheContext) -> str | None:
        """FlashAttention where version 3 or 4 runs with these widths, else Triton."""
        if self.head_size_v in (None, self.head_size):
            return self.fixed
        major = context.compute_capability[0]
        widths = (self.head_size, self.head_size_v)
        fits = major == 9 or (major == 10 and (self.head_size <= 128 or widths == (192, 128)))
        return "FLASH_ATTN_DIFFKV" if fits else "TRITON_ATTN_DIFFKV"


BFLOAT16 = 2


@dataclass(frozen=True, kw_only=True)
class InklingAttention(Attention):
    """Full or windowed attention; windows keep the model's block size."""

    heeds_skip_layers: bool = False

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
    fixed: str | None = "INKLING_SCONV_SWA"

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
