"""One frozen class per kind of cache layer; each answers for its own page and its own requests.

A *page* is what one layer stores in one block, in bytes. A layer's class says how large the page
is and how many blocks one request of ``max_model_len`` tokens may hold. Everything else (groups,
bytes per block, block counts) is arithmetic over these two answers.

Source: vLLM 0.33 ``v1/kv_cache_interface.py``; each class carries the name of vLLM's.
"""

from __future__ import annotations

from typing import ClassVar

from ..records import dataclass, replace
from .spec import AttentionSpec, KVCacheSpec, RequestLimits, cdiv

__all__ = [
    "AttentionSpec",
    "ChunkedLocalAttentionSpec",
    "CircularBufferSpec",
    "CrossAttentionSpec",
    "FullAttentionSpec",
    "KVCacheSpec",
    "MLAAttentionSpec",
    "MambaSpec",
    "RequestLimits",
    "SlidingWindowMLASpec",
    "SlidingWindowSpec",
]


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
        cache_role: ``sparse`` for the latents, ``indexer`` for the indexer's keys.
        variant: What else keeps two such layers from being one spec (model version and the like).
    """

    kind: ClassVar[str] = "mla_attention"

    num_kv_heads: int = 1
    head_size_v: int = 0
    cache_role: str = "sparse"
    variant: str = ""

    @property
    def summary(self) -> str:
        """What a row is, and its bytes."""
        what = "indexer key" if self.cache_role == "indexer" else "MLA latent"
        return f"{what} of {self.unpadded_page_size_bytes // self.block_size:,} bytes a token"

    @classmethod
    def can_merge(cls, specs: list[KVCacheSpec]) -> bool:
        """Only equal ones: format, compression, role and padding."""
        return all(spec == specs[0] for spec in specs[1:])


@dataclass(frozen=True, kw_only=True)
class SlidingWindowSpec(AttentionSpec):
    """Blocks that fell out of the window are freed.

    Attributes:
        sliding_window: Tokens a token may look back on, itself included.
        extra_retained_tokens: Tokens kept below the window for multi-module draft models.
    """

    kind: ClassVar[str] = "sliding_window"
    alike_in: ClassVar[tuple[str, ...]] = ("sliding_window",)
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


@dataclass(frozen=True, kw_only=True)
class SlidingWindowMLASpec(SlidingWindowSpec):
    """Latent rows within a window (DeepSeek-V4).

    ``bounded_replay`` layers are rebuilt from the last window instead of being prefix-cached.
    """

    kind: ClassVar[str] = "sliding_window_mla"
    alike_in: ClassVar[tuple[str, ...]] = ("sliding_window", "bounded_replay")

    num_kv_heads: int = 1
    head_size_v: int = 0
    bounded_replay: bool = False
    variant: str = ""

    @property
    def summary(self) -> str:
        """The window, and the bytes of a row."""
        row = self.unpadded_page_size_bytes // self.block_size
        return f"sliding window {self.sliding_window:,}: MLA latent of {row:,} bytes a token"


@dataclass(frozen=True, kw_only=True)
class ChunkedLocalAttentionSpec(AttentionSpec):
    """Attention inside chunks of the sequence (Llama 4)."""

    kind: ClassVar[str] = "chunked_local_attention"
    alike_in: ClassVar[tuple[str, ...]] = ("attention_chunk_size",)
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

    num_kv_heads: int = 1
    head_size_v: int = 0

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
    alike_in: ClassVar[tuple[str, ...]] = (
        *("num_speculative_blocks", "num_prefill_checkpoint_blocks"),
        *("prefill_checkpoint_alignment", "page_size_bytes", "tp_replicated"),
    )

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
