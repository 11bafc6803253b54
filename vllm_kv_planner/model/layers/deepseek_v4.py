"""DeepSeek-V4's caches: windowed latents, compressed latents, their index, open groups.

Source: vLLM 0.33 ``models/deepseek_v4/attention.py`` (``_resolve_dsv4_kv_cache_dtype``),
``nvidia/model.py`` (``_select_dsv4_attn_cls``), ``compressor.py``,
``v1/attention/backends/mla/sparse_swa.py``.
"""

from __future__ import annotations

from ...errors import InputError
from ...kv_cache.specs import KVCacheSpec, MLAAttentionSpec, SlidingWindowMLASpec
from ...records import dataclass, field
from .base import Backend, CacheContext, CacheLayer, as_packed, kv_cache_element_bytes
from .sparse import indexer_key_bytes, stores_mxfp4


@dataclass(frozen=True, kw_only=True)
class LatentRows:
    """How rows of latents are stored.

    Attributes:
        kv_cache_dtype: vLLM's name of the format.
        element_bytes: Bytes of an element of a plain row.
        compressed_bytes: Bytes of a packed compressed row; None where rows are plain.
        window_bytes: The same of a windowed row.
        page_alignment: Pages are multiples of so many bytes.
        block_stride: Blocks are multiples of so many bytes.
    """

    kv_cache_dtype: str
    element_bytes: int
    compressed_bytes: int | None = None
    window_bytes: int | None = None
    page_alignment: int = 512
    block_stride: int = 1

    @property
    def is_packed(self) -> bool:
        """Whether rows are blobs of values and scales."""
        return self.compressed_bytes is not None


@dataclass(frozen=True, kw_only=True)
class DeepSeekV4Family:
    """Backends and row formats of DeepSeek-V4; V4.1 has its own."""

    window_block: int = 64
    window_backend: str = "DEEPSEEK_SPARSE_SWA"
    index_backend: str = "DEEPSEEK_V4_INDEXER"
    auto_is_fp8: bool = True
    """Packed rows take ``--kv-cache-dtype auto``, in this version."""

    def backend(self, context: CacheContext) -> str:
        """FlashInfer's where asked for and on Blackwell 12.x, else FlashMLA's."""
        flashinfer = context.attention_backend == "FLASHINFER_MLA_SPARSE_DSV4"
        default = context.attention_backend is None and context.compute_capability[0] == 12
        return "FLASHINFER_MLA_SPARSE_DSV4" if flashinfer or default else "FLASHMLA_SPARSE_DSV4"

    def is_plain(self, context: CacheContext) -> bool:
        """Whether the backend stores plain rows: FlashInfer's, but for Blackwell 12.x."""
        flashinfer = self.backend(context).startswith("FLASHINFER")
        return flashinfer and context.compute_capability[0] != 12

    def rows(self, context: CacheContext) -> LatentRows:
        """584 bytes a row (448 fp8, 64 rope values of two bytes, 8 of scales), or plain rows."""
        asked = context.kv_cache_dtype
        if self.is_plain(context):
            return plain_rows(asked)
        if not asked.startswith("fp8") and not (asked == "auto" and self.auto_is_fp8):
            raise InputError(
                f"--kv-cache-dtype {asked}: DeepSeek-V4 with {self.backend(context)} stores fp8 "
                f"only; valid: {'auto, ' if self.auto_is_fp8 else ''}fp8, fp8_ds_mla"
            )
        return LatentRows(
            kv_cache_dtype="fp8_ds_mla",
            element_bytes=1,
            compressed_bytes=584,
            window_bytes=584,
            page_alignment=576,
        )

    def indexer(self, context: CacheContext) -> str:
        """Backend of the index."""
        return self.index_backend

    def index_stride(self, context: CacheContext) -> int:
        """Bytes that blocks of the index are multiples of."""
        return 1


def plain_rows(kv_cache_dtype: str) -> LatentRows:
    """Rows of fp8 or bf16 elements."""
    element_bytes = kv_cache_element_bytes(kv_cache_dtype, "bfloat16")
    return LatentRows(kv_cache_dtype=kv_cache_dtype, element_bytes=element_bytes)


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
    fixed: str | None = "CompressorBackend"

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """A key and a score per token and overlapping group."""
        overlap = 2 if self.compress_ratio == 4 else 1
        spec = SlidingWindowMLASpec(
            block_size=STATE_BLOCKS[self.compress_ratio],
            head_size=2 * overlap * self.head_dim,
            dtype_bytes=FLOAT32,
            sliding_window=overlap * self.compress_ratio,
            alignment=self.family.rows(context).page_alignment,
        )
        return as_packed(spec, backend)
