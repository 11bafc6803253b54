"""Keys of the lightning indexer, which chooses the tokens that sparse latent attention reads.

Source: vLLM 0.33 ``model_executor/models/deepseek_v2.py`` ``DeepseekV32IndexerCache``;
``models/glm5next/common/attention.py``.
"""

from __future__ import annotations

from ...errors import InputError
from ...kv_cache.math import cdiv, next_power_of_two
from ...kv_cache.specs import CircularBufferSpec, KVCacheSpec, MLAAttentionSpec
from ...records import dataclass
from ..context import Backend, CacheContext
from .base import CacheLayer, as_packed

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
            num_kv_heads=1,
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

    def fixed_backend(self, context: CacheContext) -> str | None:
        """Always its own."""
        return "KPOOL_TAIL"

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """Whole pools, a power of two of them, with room for every draft token."""
        pools = cdiv(self.tokens_per_key + context.num_speculative_tokens, self.tokens_per_key)
        spec = CircularBufferSpec(
            block_size=self.tokens_per_key * next_power_of_two(pools),
            num_kv_heads=2,
            head_size=self.head_dim,
            head_size_v=0,
            dtype_bytes=2,
            dcp_sharded=False,
        )
        return as_packed(spec, backend)
