"""Attention over chosen tokens (MiniMax-M3, Qwen4) and the index keys beside it.

Source: vLLM 0.33 ``models/minimax_m3/common/indexer.py``, ``nvidia/model.py``;
``models/qwen4_exp/common/qsa_cache.py``, ``nvidia/qsa.py``.
"""

from __future__ import annotations

from ...errors import InputError
from ...kv_cache.math import round_up
from ...kv_cache.specs import CircularBufferSpec, KVCacheSpec, MLAAttentionSpec
from ...records import dataclass
from ..context import Backend, CacheContext
from .attention import Attention
from .base import CacheLayer, as_packed

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
        fixed: Backend its class names.
    """

    head_dim: int
    tokens_per_key: int = 1
    is_indexer: bool = False
    fixed: str

    def fixed_backend(self, context: CacheContext) -> str | None:
        """Always its own."""
        return self.fixed

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """A key per token or group."""
        spec = MLAAttentionSpec(
            block_size=context.block_size,
            num_kv_heads=1,
            head_size=self.head_dim,
            dtype_bytes=index_bytes(context),
            tokens_per_state=self.tokens_per_key,
            cache_role="indexer" if self.is_indexer else "sparse",
        )
        return as_packed(spec, backend)


@dataclass(frozen=True, kw_only=True)
class SparseAttention(Attention):
    """Grouped-query attention to chosen blocks, in backends of its own.

    Attributes:
        heeds_skip_layers: Whether ``--kv-cache-dtype-skip-layers`` means this class too.
    """

    heeds_skip_layers: bool = False

    def layer_kv_cache_dtype(self, context: CacheContext) -> str:
        """The layer's own KV dtype."""
        if self.heeds_skip_layers:
            return super().layer_kv_cache_dtype(context)
        return context.kv_cache_dtype


@dataclass(frozen=True, kw_only=True)
class MiniMaxSparseAttention(SparseAttention):
    """MiniMax-M3's: on Blackwell 10.x also in NVFP4."""

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

    def fixed_backend(self, context: CacheContext) -> str | None:
        """Always its own."""
        return "QWEN4_EXP_EXP_QSA_STATE"

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """Whole groups, with room for the draft tokens."""
        group = self.tokens_per_key
        width = round_up(self.head_dim, 4) + 3 * 4 if self.keeps_positions else self.head_dim
        spec = CircularBufferSpec(
            block_size=round_up(group + context.num_speculative_tokens, group),
            num_kv_heads=1,
            head_size=width,
            head_size_v=0,
            dtype_bytes=BFLOAT16,
        )
        return as_packed(spec, backend)
