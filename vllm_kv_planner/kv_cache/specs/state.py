"""Layers whose cache does not grow with the request: states, rings, encoder outputs."""

from __future__ import annotations

from typing import ClassVar

from ...records import dataclass
from ..math import cdiv
from .base import AttentionSpec, KVCacheSpec, RequestLimits


@dataclass(frozen=True, kw_only=True)
class CrossAttentionSpec(AttentionSpec):
    """Keys and values of the encoder's output, kept for as long as the request runs."""

    kind: ClassVar[str] = "cross_attention"
    grows_with_context: ClassVar[bool] = False

    def blocks_per_request(self, limits: RequestLimits) -> int:
        """Room for the encoder's largest input."""
        return cdiv(limits.max_num_encoder_input_tokens, self.block_size)

    def tokens_kept(self, seq_len: int, limits: RequestLimits) -> int:
        """The encoder's largest input, whatever the decoder's length."""
        return limits.max_num_encoder_input_tokens


@dataclass(frozen=True, kw_only=True)
class CircularBufferSpec(AttentionSpec):
    """One block per request: raw keys of the token group that is still being compressed."""

    kind: ClassVar[str] = "circular_buffer"
    grows_with_context: ClassVar[bool] = False
    prefix_cacheable: ClassVar[bool] = False

    def blocks_per_request(self, limits: RequestLimits) -> int:
        """Always one."""
        return 1

    def tokens_kept(self, seq_len: int, limits: RequestLimits) -> int:
        """The whole ring."""
        return self.block_size


@dataclass(frozen=True, kw_only=True)
class MambaSpec(KVCacheSpec):
    """A state of fixed size per request: Mamba, gated delta net, linear attention, short conv.

    Attributes:
        state_bytes: All state tensors of one layer on this rank together.
        num_speculative_blocks: One more state per draft token.
        num_prefill_checkpoint_blocks: States exported inside a prefill, in align mode.
        prefill_checkpoint_alignment: Token grid such an export lies on; None exports none.
        variant: What else keeps two states from being one spec (shapes, dtypes, kernel).
        tp_replicated: Whether every tensor-parallel rank holds the whole state.
    """

    kind: ClassVar[str] = "mamba"

    state_bytes: int
    num_speculative_blocks: int = 0
    num_prefill_checkpoint_blocks: int = 0
    prefill_checkpoint_alignment: int | None = None
    variant: str = ""
    tp_replicated: bool = False

    @property
    def unpadded_page_size_bytes(self) -> int:
        """The states; a block holds one copy whatever its token count."""
        return self.state_bytes

    @property
    def summary(self) -> str:
        """The state's bytes."""
        return f"state of {self.state_bytes:,} bytes (Mamba, linear attention), whatever the length"

    def blocks_per_request(self, limits: RequestLimits) -> int:
        """The running state; with prefix caching also the last aligned one and checkpoints."""
        if limits.mamba_cache_mode == "align":
            return 2 + self.num_speculative_blocks + self.num_prefill_checkpoint_blocks
        return 1 + self.num_speculative_blocks

    def same_type_as(self, other: KVCacheSpec) -> bool:
        """Same page and the same number of states per request."""
        return (
            isinstance(other, MambaSpec)
            and other.num_speculative_blocks == self.num_speculative_blocks
            and other.num_prefill_checkpoint_blocks == self.num_prefill_checkpoint_blocks
            and other.prefill_checkpoint_alignment == self.prefill_checkpoint_alignment
            and other.page_size_bytes == self.page_size_bytes
            and other.tp_replicated == self.tp_replicated
        )
