"""Layers that free what fell out of their window or chunk."""

from __future__ import annotations

from typing import ClassVar

from ...records import dataclass
from ..math import cdiv
from .base import AttentionSpec, KVCacheSpec, RequestLimits
from .full import aligned_page


@dataclass(frozen=True, kw_only=True)
class SlidingWindowSpec(AttentionSpec):
    """Blocks that fell out of the window are freed.

    Attributes:
        sliding_window: Tokens a token may look back on, itself included.
        extra_retained_tokens: Tokens kept below the window for multi-module draft models.
    """

    kind: ClassVar[str] = "sliding_window"
    grows_with_context: ClassVar[bool] = False

    sliding_window: int
    extra_retained_tokens: int = 0

    def blocks_per_request(self, limits: RequestLimits) -> int:
        """Window and in-flight tokens, plus one: the window may start inside a block."""
        tokens = self.sliding_window - 1 + self.extra_retained_tokens + limits.max_in_flight_tokens
        return cdiv(min(tokens, limits.max_model_len), self.block_size) + 1

    def tokens_kept(self, seq_len: int, limits: RequestLimits) -> int:
        """The window."""
        return min(seq_len, self.sliding_window)

    @property
    def summary(self) -> str:
        """The window, and the heads."""
        return f"sliding window {self.sliding_window:,}: {self.heads}"

    def same_type_as(self, other: KVCacheSpec) -> bool:
        """Same window."""
        return isinstance(other, SlidingWindowSpec) and other.sliding_window == self.sliding_window


@dataclass(frozen=True, kw_only=True)
class SlidingWindowMLASpec(SlidingWindowSpec):
    """Latent rows within a window (DeepSeek-V4).

    ``bounded_replay`` layers are rebuilt from the last window instead of being prefix-cached.
    """

    kind: ClassVar[str] = "sliding_window_mla"

    head_size_v: int = 0
    alignment: int | None = None
    bounded_replay: bool = False
    variant: str = ""

    @property
    def page_size_bytes(self) -> int:
        """Bytes of the page, padded to the alignment."""
        return aligned_page(self, self.alignment)

    @property
    def summary(self) -> str:
        """The window, and the bytes of a row."""
        row = self.unpadded_page_size_bytes // self.block_size
        return f"sliding window {self.sliding_window:,}: MLA latent of {row:,} bytes a token"

    def same_type_as(self, other: KVCacheSpec) -> bool:
        """Same window and the same way of being rebuilt."""
        return (
            isinstance(other, SlidingWindowMLASpec)
            and other.sliding_window == self.sliding_window
            and other.bounded_replay == self.bounded_replay
        )


@dataclass(frozen=True, kw_only=True)
class ChunkedLocalAttentionSpec(AttentionSpec):
    """Attention inside chunks of the sequence (Llama 4)."""

    kind: ClassVar[str] = "chunked_local_attention"
    grows_with_context: ClassVar[bool] = False

    attention_chunk_size: int

    def blocks_per_request(self, limits: RequestLimits) -> int:
        """One chunk and the in-flight tokens."""
        tokens = self.attention_chunk_size + limits.max_in_flight_tokens
        return cdiv(min(tokens, limits.max_model_len), self.block_size)

    def tokens_kept(self, seq_len: int, limits: RequestLimits) -> int:
        """One chunk."""
        return min(seq_len, self.attention_chunk_size)

    @property
    def summary(self) -> str:
        """The chunk, and the heads."""
        return f"chunks of {self.attention_chunk_size:,}: {self.heads}"

    def same_type_as(self, other: KVCacheSpec) -> bool:
        """Same chunk."""
        return (
            isinstance(other, ChunkedLocalAttentionSpec)
            and other.attention_chunk_size == self.attention_chunk_size
        )
