"""What one layer keeps of a request (vLLM's ``KVCacheSpec``), and the integer arithmetic of it.

Source: vLLM 0.33 ``v1/kv_cache_interface.py``.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, ClassVar

from ..records import dataclass, replace

if TYPE_CHECKING:
    from fractions import Fraction


def cdiv(a: int, b: int) -> int:
    """Ceiling of ``a / b`` for integers, exact at any size."""
    return -(-a // b)


def round_up(a: int, b: int) -> int:
    """Smallest multiple of ``b`` that is at least ``a``."""
    return cdiv(a, b) * b


def next_power_of_two(a: int) -> int:
    """Smallest power of two that is at least ``a``, which is positive."""
    return 1 << (a - 1).bit_length()


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """What bounds one request, whatever the layer.

    Attributes:
        max_model_len: Tokens of prompt and answer together.
        max_in_flight_tokens: ``max_num_batched_tokens`` times concurrent batches: tokens that
            are scheduled but not settled, whose blocks a sliding window cannot free yet
            (vLLM 0.33 ``VllmConfig.max_in_flight_tokens``).
        decode_context_parallel_size: Ranks that share one sequence's tokens.
        max_num_encoder_input_tokens: Encoder tokens a cross-attention layer makes room for.
        mamba_cache_mode: ``none``, ``align`` or ``all``: what prefix caching asks of states.
    """

    max_model_len: int
    max_in_flight_tokens: int
    decode_context_parallel_size: int = 1
    max_num_encoder_input_tokens: int = 0
    mamba_cache_mode: str = "none"

    def at_length(self, max_model_len: int) -> RequestLimits:
        """The same for requests of another length."""
        return replace(self, max_model_len=max_model_len)


@dataclass(frozen=True, kw_only=True)
class KVCacheSpec:
    """What every cache layer has.

    Attributes:
        block_size: Tokens in one block.
        page_size_padded: Bytes the page is padded to, so that it matches other layers' pages.
        dcp_sharded: Whether decode context parallel divides this layer's tokens over ranks.
        block_stride_bytes: Blocks start at multiples of this many bytes.
        block_stride_tokens: The same, as the page of so many tokens (kernel block size).
    """

    kind: ClassVar[str] = "unknown"
    grows_with_context: ClassVar[bool] = False
    prefix_cacheable: ClassVar[bool] = True
    alike_in: ClassVar[tuple[str, ...]] = ()
    """What two specs of the class must agree on to need the same token slots."""

    block_size: int
    page_size_padded: int | None = None
    dcp_sharded: bool = False
    block_stride_bytes: int = 1
    block_stride_tokens: int | None = None

    @property
    def unpadded_page_size_bytes(self) -> int:
        """Bytes of one layer's share of one block, before any padding."""
        raise TypeError(f"{type(self).__name__} has no page")

    @property
    def page_size_bytes(self) -> int:
        """Bytes of one layer's share of one block."""
        padded = self.page_size_padded
        return self.unpadded_page_size_bytes if padded is None else padded

    def blocks_per_request(self, limits: RequestLimits) -> int:
        """Most blocks that one request may hold at a time."""
        raise TypeError(f"{type(self).__name__} has no request bound")

    def bytes_kept(self, seq_len: int, limits: RequestLimits) -> int:
        """Bytes that one sequence of ``seq_len`` tokens needs, counted to the token."""
        return self.unpadded_page_size_bytes

    @property
    def summary(self) -> str:
        """The layer in a few words."""
        return self.kind.replace("_", " ")

    def block_stride_alignment(self) -> int:
        """Bytes that the stride between blocks is a multiple of."""
        if self.block_stride_tokens is None:
            return self.block_stride_bytes
        tokens = gcd(self.block_stride_tokens, self.block_size)
        return 1 if tokens == self.block_size else replace(self, block_size=tokens).page_size_bytes

    def same_type_as(self, other: KVCacheSpec) -> bool:
        """Whether ``other`` is of the same kind and needs the same token slots."""
        return isinstance(other, type(self)) and all(
            getattr(other, name) == getattr(self, name) for name in self.alike_in
        )

    def shares_blocks_with(self, other: KVCacheSpec) -> bool:
        """Whether one block table serves both."""
        same_blocks = self.block_size == other.block_size and self.dcp_sharded == other.dcp_sharded
        return same_blocks and self.same_type_as(other)

    @classmethod
    def can_merge(cls, specs: list[KVCacheSpec]) -> bool:
        """Whether these specs may stand in one group as one and the same spec."""
        return all(spec == specs[0] for spec in specs[1:])


@dataclass(frozen=True, kw_only=True)
class AttentionSpec(KVCacheSpec):
    """Keys and values, one state per token unless compressed.

    Attributes:
        num_kv_heads: KV heads on this rank.
        head_size: Width of a key, in elements.
        head_size_v: Width of a value; 0 where keys and values share one latent (MLA).
        dtype_bytes: Bytes of one stored element.
        kv_cache_dtype: vLLM's name of the stored format; ``auto`` is the model's own dtype.
        num_head_slots: Rows per token when a backend packs other than one row per KV head.
        state_content_bytes: Bytes of one such row when it is not plain keys and values.
        tokens_per_state: Tokens covered by one stored row (compressed latents: more than one;
            pooled audio: a fraction of one).
        alignment: Pages without padding of their own are multiples of so many bytes (latents).
    """

    grows_with_context: ClassVar[bool] = True

    dcp_sharded: bool = True
    num_kv_heads: int
    head_size: int
    head_size_v: int
    dtype_bytes: int
    kv_cache_dtype: str = "auto"
    num_head_slots: int | None = None
    state_content_bytes: int | None = None
    tokens_per_state: int | Fraction = 1
    alignment: int = 1

    @property
    def page_size_bytes(self) -> int:
        """Bytes of one layer's share of one block, padded or aligned."""
        padded = self.page_size_padded
        return round_up(self.unpadded_page_size_bytes, self.alignment) if padded is None else padded

    @property
    def num_heads(self) -> int:
        """Rows stored per state."""
        return self.num_kv_heads if self.num_head_slots is None else self.num_head_slots

    @property
    def num_states(self) -> int:
        """States stored in one block."""
        return int(self.block_size // self.tokens_per_state)

    @property
    def unpadded_page_size_bytes(self) -> int:
        """Rows times states times bytes of a row."""
        content = self.state_content_bytes
        if content is None:
            content = (self.head_size + self.head_size_v) * self.dtype_bytes
        return self.num_heads * self.num_states * content

    def tokens_kept(self, seq_len: int, limits: RequestLimits) -> int:
        """Tokens of a sequence that are kept once all of it is computed."""
        return seq_len

    def bytes_kept(self, seq_len: int, limits: RequestLimits) -> int:
        """Rows of the tokens that are kept."""
        return cdiv(
            self.unpadded_page_size_bytes * self.tokens_kept(seq_len, limits), self.block_size
        )

    @property
    def heads(self) -> str:
        """KV heads and their widths, in words."""
        text = f"{self.num_kv_heads} KV heads of {self.head_size}"
        if self.head_size_v == self.head_size:
            return text
        return f"{text} (keys) and {self.head_size_v} (values)"

    @property
    def summary(self) -> str:
        """The kind, and its heads."""
        return f"{self.kind.replace('_', ' ')}: {self.heads}"

    def layout_shape(self) -> tuple[int, int, int]:
        """What layers must have in common to be views of one tensor: heads, states, bytes."""
        return self.num_heads, self.num_states, self.page_size_bytes
