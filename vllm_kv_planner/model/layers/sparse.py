"""Attention over chosen tokens, and the index keys and open groups kept beside it.

Source: vLLM 0.33 ``model_executor/models/deepseek_v2.py`` ``DeepseekV32IndexerCache``;
``models/glm5next/common/attention.py``; ``models/minimax_m3/common/indexer.py``,
``nvidia/model.py``; ``models/qwen4_exp/common/qsa_cache.py``, ``nvidia/qsa.py``;
``models/step5/nvidia/sparse_summary_cache.py``, ``csa_tail_ring.py``.
"""

from __future__ import annotations

from ...errors import InputError
from ...kv_cache.spec import cdiv, next_power_of_two, round_up
from ...kv_cache.specs import CircularBufferSpec, FullAttentionSpec, KVCacheSpec, MLAAttentionSpec
from ...records import dataclass
from .attention import Attention
from .base import Backend, CacheContext, CacheLayer, as_packed

INDEXER_SCALE_BLOCK = 128
"""Values of an indexer's key that share one float32 scale."""


def indexer_key_bytes(head_dim: int) -> int:
    """An fp8 key and its scales: 132 bytes for 128 values."""
    return head_dim + head_dim // INDEXER_SCALE_BLOCK * 4


def stores_mxfp4(context: CacheContext) -> bool:
    """Whether keys are to be MXFP4 instead of fp8.

    Source: vLLM 0.33 ``v1/attention/backends/mla/indexer.py`` ``dsa_indexer_uses_fp4``.

    Raises:
        InputError: A dtype that the DeepSeek indexer, or this GPU, does not have.
    """
    dtype = context.indexer_kv_dtype
    if dtype not in ("auto", "fp8", "mxfp4"):
        raise InputError(
            f"indexer_kv_dtype={dtype!r} is not supported by the DeepSeek sparse indexer "
            "(expected one of auto, fp8, mxfp4)"
        )
    if dtype == "mxfp4" and context.compute_capability[0] != 10:
        raise InputError("indexer_kv_dtype='mxfp4' requires a GPU of compute capability 10.x")
    return dtype == "mxfp4"


@dataclass(frozen=True, kw_only=True)
class Indexer(CacheLayer):
    """The lightning indexer's keys: fp8 with a float32 scale per 128 values, whatever the dtype.

    Attributes:
        head_dim: Width of a key, in values.
        tokens_per_key: Tokens pooled into one key (GLM-5.3-Flash); 1 for a key each.
    """

    head_dim: int
    tokens_per_key: int = 1

    def fixed_backend(self, context: CacheContext) -> str | None:
        """Always its own."""
        return "DEEPSEEK_V32_INDEXER" if self.tokens_per_key == 1 else "GLM5NEXT_INDEXER"

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """One key a token or pool, in bytes: fp8 even where MXFP4 is asked for."""
        stores_mxfp4(context)
        spec = MLAAttentionSpec(
            block_size=context.block_size,
            head_size=indexer_key_bytes(self.head_dim),
            dtype_bytes=1,
            tokens_per_state=self.tokens_per_key,
            cache_role="indexer",
        )
        return as_packed(spec, backend)


@dataclass(frozen=True, kw_only=True)
class PoolTail(CacheLayer):
    """Keys and gate scores of the pool that is still open (GLM-5.3-Flash): one ring a request.

    Source: vLLM 0.33 ``models/glm5next/common/attention.py`` ``Glm5NextTailCache``.

    Attributes:
        head_dim: Width of a key, in values of two bytes.
        tokens_per_key: Tokens of one pool.
    """

    head_dim: int
    tokens_per_key: int
    fixed: str | None = "KPOOL_TAIL"

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """Whole pools, a power of two of them, with room for every draft token."""
        pools = cdiv(self.tokens_per_key + context.num_speculative_tokens, self.tokens_per_key)
        spec = CircularBufferSpec(
            block_size=self.tokens_per_key * next_power_of_two(pools),
            num_kv_heads=2,
            head_size=self.head_dim,
            dtype_bytes=2,
            dcp_sharded=False,
        )
        return as_packed(spec, backend)


BFLOAT16 = 2
INDEX_BYTES = {"auto": 2, "bf16": 2, "fp8": 1, "fp8_e4m3": 1}
"""Bytes of a value of an index that is bf16 unless asked otherwise."""


def index_bytes(context: CacheContext) -> int:
    """Bytes of one value of the index."""
    size = INDEX_BYTES.get(context.indexer_kv_dtype)
    if size is None:
        raise InputError(
            f"indexer_kv_dtype {context.indexer_kv_dtype} is not one that this model's indexer "
            f"stores; valid: {', '.join(INDEX_BYTES)}"
        )
    return size


@dataclass(frozen=True, kw_only=True)
class IndexKeys(CacheLayer):
    """Keys the indexer scores: one per token or per group of tokens.

    Attributes:
        head_dim: Width of a key, in values.
        tokens_per_key: Tokens of a group.
        is_indexer: vLLM marks it as an indexer's cache.
    """

    head_dim: int
    tokens_per_key: int = 1
    is_indexer: bool = False

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """A key per token or group."""
        spec = MLAAttentionSpec(
            block_size=context.block_size,
            head_size=self.head_dim,
            dtype_bytes=index_bytes(context),
            tokens_per_state=self.tokens_per_key,
            cache_role="indexer" if self.is_indexer else "sparse",
        )
        return as_packed(spec, backend)


@dataclass(frozen=True, kw_only=True)
class MiniMaxSparseAttention(Attention):
    """MiniMax-M3's attention to chosen blocks: on Blackwell 10.x also in NVFP4."""

    heeds_skip_layers: bool = False

    def fixed_backend(self, context: CacheContext) -> str | None:
        """By format."""
        dtype = context.kv_cache_dtype
        if not dtype.startswith("nvfp4"):
            return "MINIMAX_M3_SPARSE"
        if dtype != "nvfp4" or context.compute_capability[0] != 10:
            raise InputError(
                f"--kv-cache-dtype {dtype}: MiniMax-M3 keeps NVFP4 only as nvfp4 and on compute "
                "capability 10.x"
            )
        return "MINIMAX_M3_SPARSE_NVFP4"


@dataclass(frozen=True, kw_only=True)
class OpenGroupKeys(CacheLayer):
    """Qwen4: raw bf16 keys of the group that is still open, one ring a request.

    Attributes:
        head_dim: Width of a key, in values.
        tokens_per_key: Tokens of a group.
        keeps_positions: Three int64 positions beside each key (images: M-RoPE).
    """

    head_dim: int
    tokens_per_key: int
    keeps_positions: bool = False
    fixed: str | None = "QWEN4_EXP_EXP_QSA_STATE"

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """Whole groups, with room for the draft tokens."""
        group = self.tokens_per_key
        width = round_up(self.head_dim, 4) + 3 * 4 if self.keeps_positions else self.head_dim
        spec = CircularBufferSpec(
            block_size=round_up(group + context.num_speculative_tokens, group),
            head_size=width,
            dtype_bytes=BFLOAT16,
        )
        return as_packed(spec, backend)


@dataclass(frozen=True, kw_only=True)
class RegionSummaries(CacheLayer):
    """Step-5: an fp8 summary of 256 bytes per eight tokens."""

    fixed: str | None = "STEP5_CSA_SUMMARY"

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """One summary a region."""
        if context.block_size % 8:
            raise InputError(
                f"--block-size {context.block_size}: Step-5 needs a multiple of eight tokens"
            )
        spec = FullAttentionSpec(
            block_size=context.block_size,
            num_kv_heads=1,
            head_size=256,
            head_size_v=0,
            dtype_bytes=1,
            tokens_per_state=8,
        )
        return as_packed(spec, backend)


REGION_ROW_BYTES = 1024
"""Step-5: index key and gate of one token, 256 bf16 values each."""


@dataclass(frozen=True, kw_only=True)
class OpenRegion(CacheLayer):
    """Step-5: rows of the region that is still open, one ring a request, as large as a KV page.

    Attributes:
        attention: The layer's attention, whose page it matches.
    """

    attention: Attention
    fixed: str | None = "STEP5_CSA_TAIL_RING"

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """A page of rows; at least seven and the draft tokens."""
        main = self.attention.cache_spec(context, None)
        page = 0 if main is None else main.page_size_bytes
        needed = 7 + context.num_speculative_tokens
        if page % REGION_ROW_BYTES or page // REGION_ROW_BYTES < needed:
            raise InputError(
                f"--block-size {context.block_size}: Step-5 needs {needed} rows of "
                f"{REGION_ROW_BYTES} bytes in one KV page, which has {page}; increase it"
            )
        spec = CircularBufferSpec(
            block_size=context.block_size,
            head_size=page // (context.block_size * BFLOAT16),
            dtype_bytes=BFLOAT16,
            block_stride_bytes=REGION_ROW_BYTES,
        )
        return as_packed(spec, backend)
