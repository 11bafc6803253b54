"""How DeepSeek-V4 stores a row of latents, and which backends read it.

Source: vLLM 0.33 ``models/deepseek_v4/attention.py`` ``_resolve_dsv4_kv_cache_dtype``,
``nvidia/model.py`` ``_select_dsv4_attn_cls``.
"""

from __future__ import annotations

from ...errors import InputError
from ...records import dataclass
from ..context import CacheContext
from ..dtypes import kv_cache_element_bytes


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
        if asked != "auto" and not asked.startswith("fp8"):
            raise InputError(
                f"--kv-cache-dtype {asked}: DeepSeek-V4 with {self.backend(context)} stores fp8 "
                "only; valid: auto, fp8, fp8_ds_mla"
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
