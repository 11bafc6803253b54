"""DeepSeek-V4.1's caches: one compressed cache for several layers, formats by GPU.

Source: vLLM 0.33 ``models/deepseek_v41/attention.py``, ``compressor.py``, ``nvidia/model.py``
``_select_dsv4_attn_cls``, ``nvidia/flash_mla_mega_attn.py``.
"""

from __future__ import annotations

from math import lcm

from ...errors import InputError
from ...kv_cache.spec import next_power_of_two
from ...kv_cache.specs import CircularBufferSpec, KVCacheSpec
from ...records import dataclass
from .base import Backend, CacheContext, as_packed
from .deepseek_v4 import FLOAT32, DeepSeekV4Family, DeepSeekV4Layer, LatentRows, plain_rows

FLASHINFER = ("FLASHINFER_MLA_SPARSE_DSV4", "FLASHINFER_MLA_SPARSE_DSV41")
FLASHMLA = ("FLASHMLA_SPARSE", "FLASHMLA_SPARSE_DSV4", "FLASHMLA_SPARSE_DSV41")
MEGA = "FLASHMLA_MEGA_ATTN_DSV41"
HEADS_PER_GROUP = 8
"""Heads per output group that FlashMLA's fused kernel is made for."""


@dataclass(frozen=True, kw_only=True)
class DeepSeekV41Family(DeepSeekV4Family):
    """Backends and row formats of DeepSeek-V4.1.

    Attributes:
        num_heads: Query heads of the whole model.
        o_groups: Output groups of the whole model.
    """

    window_block: int = 32
    num_heads: int
    o_groups: int

    def backend(self, context: CacheContext) -> str:
        """As asked for; else FlashInfer on 12.x, the fused kernel on 10.x, FlashMLA elsewhere."""
        asked, major = context.attention_backend, context.compute_capability[0]
        if asked in FLASHINFER or (asked is None and major == 12):
            return "FLASHINFER_MLA_SPARSE_DSV41"
        if asked == MEGA or (asked is None and self.fused_kernel_fits(context)):
            return MEGA
        return "FLASHMLA_SPARSE_DSV41"

    def fused_kernel_fits(self, context: CacheContext) -> bool:
        """Blackwell 10.x, and eight heads per output group on every rank."""
        ranks = context.tensor_parallel_size
        if context.compute_capability[0] != 10 or self.num_heads % ranks or self.o_groups % ranks:
            return False
        heads, groups = self.num_heads // ranks, self.o_groups // ranks
        return heads % HEADS_PER_GROUP == 0 and heads // groups == HEADS_PER_GROUP

    def rows(self, context: CacheContext) -> LatentRows:
        """On 10.x 528 bytes a row (512 fp8, 16 scales), compressed ones 288 in NVFP4; else V4's."""
        asked, backend = context.kv_cache_dtype, self.backend(context)
        if self.is_plain(context):
            if asked.endswith("_ds_mla"):
                raise InputError(f"--kv-cache-dtype {asked}: {backend} stores plain rows")
            return plain_rows(asked)
        if asked in ("auto", "fp8"):
            asked = "nvfp4_ds_mla" if backend == MEGA else "fp8_ds_mla"
        if not asked.endswith("_ds_mla"):
            raise InputError(
                f"--kv-cache-dtype {asked}: DeepSeek-V4.1 with {backend} stores packed rows only; "
                "valid: auto, fp8, fp8_ds_mla"
            )
        data_centre_blackwell = context.compute_capability[0] == 10
        if asked == "nvfp4_ds_mla" and not data_centre_blackwell:
            raise InputError("--kv-cache-dtype nvfp4_ds_mla needs compute capability 10.x")
        window = 528 if data_centre_blackwell else 584
        compressed = 288 if asked == "nvfp4_ds_mla" else window
        return LatentRows(
            kv_cache_dtype=asked,
            element_bytes=1,
            compressed_bytes=compressed,
            window_bytes=window,
            page_alignment=512 if data_centre_blackwell else 576,
            block_stride=lcm(window, compressed) if data_centre_blackwell else 1,
        )

    def indexer(self, context: CacheContext) -> str:
        """Backend of the index, by how logits are computed."""
        sparse = context.indexer_sparse_logits
        return "DEEPSEEK_V41_SPARSE_INDEXER" if sparse else "DEEPSEEK_V41_INDEXER"

    def index_stride(self, context: CacheContext) -> int:
        """DeepGEMM's sparse logits want blocks at multiples of 256 bytes."""
        if not context.indexer_sparse_logits:
            return 1
        rows = self.rows(context)
        own = rows.is_packed and context.compute_capability[0] == 10
        return lcm(256, 1 if own else rows.page_alignment)


@dataclass(frozen=True, kw_only=True)
class OpenPairs(DeepSeekV4Layer):
    """Keys and scores of the pair of tokens that is still open: one ring a request, float32."""

    fixed: str | None = "CompressorBackend"

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """Draft tokens, the token itself and the one before; a power of two, at least eight."""
        rows = context.num_speculative_tokens + 2
        spec = CircularBufferSpec(
            block_size=max(8, next_power_of_two(rows)),
            head_size=2 * self.head_dim,
            dtype_bytes=FLOAT32,
        )
        return as_packed(spec, backend)
