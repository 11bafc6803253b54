"""DeepSeek-V4's caches: windowed latents, compressed latents, their index, open groups.

Source: vLLM 0.33 ``models/deepseek_v4/attention.py``, ``compressor.py``,
``v1/attention/backends/mla/sparse_swa.py``.
"""

from __future__ import annotations

from ...kv_cache.specs import KVCacheSpec, MLAAttentionSpec, SlidingWindowMLASpec
from ...records import dataclass, field
from ..context import Backend, CacheContext
from .base import CacheLayer, as_packed
from .deepseek_v4_rows import DeepSeekV4Family
from .indexer import indexer_key_bytes, stores_mxfp4

MODEL_VERSION = "deepseek_v4"
FLOAT32 = 4


@dataclass(frozen=True, kw_only=True)
class DeepSeekV4Layer(CacheLayer):
    """What the family's caches have in common.

    Attributes:
        family: The generation: formats and backends.
        head_dim: Width of a row, in values.
    """

    family: DeepSeekV4Family = field(default_factory=DeepSeekV4Family)
    head_dim: int


@dataclass(frozen=True, kw_only=True)
class WindowedLatents(DeepSeekV4Layer):
    """Every layer's latents of the last tokens.

    Attributes:
        sliding_window: Tokens it looks back on.
        bounded_replay: A prefix hit recomputes the window instead of caching it (V4.1).
    """

    sliding_window: int
    bounded_replay: bool = False

    def fixed_backend(self, context: CacheContext) -> str | None:
        """Always its own."""
        return self.family.window_backend

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """A row a token, in blocks of its own size."""
        rows = self.family.rows(context)
        spec = SlidingWindowMLASpec(
            block_size=self.family.window_block,
            num_kv_heads=1,
            head_size=self.head_dim,
            dtype_bytes=rows.element_bytes,
            kv_cache_dtype=rows.kv_cache_dtype,
            state_content_bytes=rows.window_bytes,
            sliding_window=self.sliding_window,
            alignment=rows.page_alignment,
            block_stride_bytes=rows.block_stride,
            bounded_replay=self.bounded_replay,
            variant=MODEL_VERSION,
        )
        return as_packed(spec, backend)


@dataclass(frozen=True, kw_only=True)
class CompressedLatents(DeepSeekV4Layer):
    """Latents of groups of tokens.

    Attributes:
        compress_ratio: Tokens of a group; None where the layer keeps no compressed latents.
    """

    compress_ratio: int | None

    def fixed_backend(self, context: CacheContext) -> str | None:
        """The generation's, by GPU and by what is asked for."""
        return self.family.backend(context)

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec | None:
        """A row a group."""
        if self.compress_ratio is None:
            return None
        rows = self.family.rows(context)
        spec = MLAAttentionSpec(
            block_size=context.block_size,
            num_kv_heads=1,
            head_size=self.head_dim,
            dtype_bytes=rows.element_bytes,
            kv_cache_dtype=rows.kv_cache_dtype,
            state_content_bytes=rows.compressed_bytes,
            tokens_per_state=self.compress_ratio,
            alignment=rows.page_alignment,
            variant=MODEL_VERSION,
        )
        return as_packed(spec, backend)


@dataclass(frozen=True, kw_only=True)
class CompressedIndex(DeepSeekV4Layer):
    """The indexer's keys of groups of tokens: fp8 with a scale, or MXFP4.

    Attributes:
        compress_ratio: Tokens of a group.
    """

    compress_ratio: int

    def fixed_backend(self, context: CacheContext) -> str | None:
        """Always its own."""
        return self.family.indexer(context)

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """A key a group, in bytes."""
        spec = MLAAttentionSpec(
            block_size=context.block_size,
            num_kv_heads=1,
            head_size=index_key_bytes(self.head_dim, context),
            dtype_bytes=1,
            tokens_per_state=self.compress_ratio,
            alignment=self.family.rows(context).page_alignment,
            block_stride_bytes=self.family.index_stride(context),
        )
        return as_packed(spec, backend)


def index_key_bytes(head_dim: int, context: CacheContext) -> int:
    """fp8 and a float32 scale per 128 values, or two values a byte and a scale byte per 32."""
    if stores_mxfp4(context):
        return head_dim // 2 + head_dim // 32
    return indexer_key_bytes(head_dim)


STATE_BLOCKS = {4: 4, 128: 8}
"""Tokens per block of open groups, by compression."""


@dataclass(frozen=True, kw_only=True)
class OpenGroups(DeepSeekV4Layer):
    """Keys and scores of the tokens whose group is still open, in float32.

    Attributes:
        compress_ratio: Tokens of a group: 4 (groups overlap) or 128.
    """

    compress_ratio: int

    def fixed_backend(self, context: CacheContext) -> str | None:
        """Always its own."""
        return "CompressorBackend"

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """A key and a score per token and overlapping group."""
        overlap = 2 if self.compress_ratio == 4 else 1
        spec = SlidingWindowMLASpec(
            block_size=STATE_BLOCKS[self.compress_ratio],
            num_kv_heads=1,
            head_size=2 * overlap * self.head_dim,
            dtype_bytes=FLOAT32,
            sliding_window=overlap * self.compress_ratio,
            alignment=self.family.rows(context).page_alignment,
        )
        return as_packed(spec, backend)
