"""Step-5's side caches: summaries of closed regions of eight tokens, rows of the open one.

Source: vLLM 0.33 ``models/step5/nvidia/sparse_summary_cache.py``, ``csa_tail_ring.py``.
"""

from __future__ import annotations

from ...errors import InputError
from ...kv_cache.specs import CircularBufferSpec, FullAttentionSpec, KVCacheSpec
from ...records import dataclass
from ..context import Backend, CacheContext
from .attention import Attention
from .base import CacheLayer, as_packed

BFLOAT16 = 2


@dataclass(frozen=True, kw_only=True)
class RegionSummaries(CacheLayer):
    """Step-5: an fp8 summary of 256 bytes per eight tokens."""

    def fixed_backend(self, context: CacheContext) -> str | None:
        """Always its own."""
        return "STEP5_CSA_SUMMARY"

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

    def fixed_backend(self, context: CacheContext) -> str | None:
        """Always its own."""
        return "STEP5_CSA_TAIL_RING"

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
            num_kv_heads=1,
            head_size=page // (context.block_size * BFLOAT16),
            head_size_v=0,
            dtype_bytes=BFLOAT16,
            block_stride_bytes=REGION_ROW_BYTES,
        )
        return as_packed(spec, backend)
