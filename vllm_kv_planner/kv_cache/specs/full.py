"""Layers that keep every token of the request."""

from __future__ import annotations

from typing import ClassVar

from ...records import dataclass, replace
from ..math import cdiv
from .base import AttentionSpec, KVCacheSpec, RequestLimits


@dataclass(frozen=True, kw_only=True)
class FullAttentionSpec(AttentionSpec):
    """Every token of the request is kept (window and chunk only say what is computed)."""

    kind: ClassVar[str] = "full_attention"

    sliding_window: int | None = None
    attention_chunk_size: int | None = None

    def blocks_per_request(self, limits: RequestLimits) -> int:
        """``ceil(ceil(L / dcp) / block_size)``."""
        tokens = limits.max_model_len
        if self.dcp_sharded:
            tokens = cdiv(tokens, limits.decode_context_parallel_size)
        return cdiv(tokens, self.block_size)

    def same_type_as(self, other: KVCacheSpec) -> bool:
        """Any full attention, latent or not, keeps a slot for every token."""
        return isinstance(other, FullAttentionSpec)

    @classmethod
    def can_merge(cls, specs: list[KVCacheSpec]) -> bool:
        """Same cache format; at most one window or one chunk size among them."""
        windows, chunks, formats = set(), set(), set()
        for spec in specs:
            if not isinstance(spec, FullAttentionSpec) or isinstance(spec, MLAAttentionSpec):
                return False
            if spec.sliding_window is not None:
                windows.add(spec.sliding_window)
            if spec.attention_chunk_size is not None:
                chunks.add(spec.attention_chunk_size)
            formats.add(replace(spec, sliding_window=None, attention_chunk_size=None))
        return len(formats) == 1 and len(windows) + len(chunks) <= 1


@dataclass(frozen=True, kw_only=True)
class MLAAttentionSpec(FullAttentionSpec):
    """One latent row per token, on every rank alike; also sparse attention's indexer keys.

    Attributes:
        alignment: Page padded up to a multiple of this many bytes.
        cache_role: ``sparse`` for the latents, ``indexer`` for the indexer's keys.
        variant: What else keeps two such layers from being one spec (model version and the like).
    """

    kind: ClassVar[str] = "mla_attention"

    head_size_v: int = 0
    alignment: int | None = None
    cache_role: str = "sparse"
    variant: str = ""

    @property
    def page_size_bytes(self) -> int:
        """Bytes of the page, padded to the alignment."""
        return aligned_page(self, self.alignment)

    @property
    def summary(self) -> str:
        """What a row is, and its bytes."""
        what = "indexer key" if self.cache_role == "indexer" else "MLA latent"
        return f"{what} of {self.unpadded_page_size_bytes // self.block_size:,} bytes a token"

    @classmethod
    def can_merge(cls, specs: list[KVCacheSpec]) -> bool:
        """Only equal ones: format, compression, role and padding."""
        return all(spec == specs[0] for spec in specs[1:])


def aligned_page(spec: AttentionSpec, alignment: int | None) -> int:
    """Page of a latent layer: padded as told, else up to its own alignment, in bytes."""
    if spec.page_size_padded is not None:
        return spec.page_size_padded
    page = spec.unpadded_page_size_bytes
    return page if alignment is None else cdiv(page, alignment) * alignment
