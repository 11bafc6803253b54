"""What a layer must know of the engine to say how large its cache is."""

from __future__ import annotations

from typing import Protocol

from ..kv_cache.specs import AttentionSpec
from ..records import dataclass


class Backend(Protocol):
    """The part of an attention backend that decides sizes."""

    @property
    def name(self) -> str:
        """Its name, vLLM's spelling."""

    def customize(self, spec: AttentionSpec) -> AttentionSpec:
        """The spec as this backend packs it."""

    def largest_kernel_block(self, bytes_per_token: int, page_budget: int, fallback: int) -> int:
        """Largest block, in tokens, that the kernels run unsplit within ``page_budget`` bytes."""


@dataclass(frozen=True, kw_only=True)
class CacheContext:
    """The resolved engine, as far as cache layers see it.

    Attributes:
        tensor_parallel_size: Ranks that share a layer's heads.
        dtype: The model's dtype: ``bfloat16``, ``float16`` or ``float32``.
        kv_cache_dtype: Resolved KV cache dtype; ``auto`` is the model's dtype.
        kv_cache_dtype_skip_layers: Layer indices (as text) and ``sliding_window``: what is kept
            unquantised.
        block_size: Tokens per block after backend and hybrid alignment.
        mamba_block_size: Tokens per block of state layers.
        mamba_page_size_padded: Bytes that state pages are padded to; None leaves them.
        mamba_cache_mode: ``none``, ``align`` or ``all``.
        mamba_cache_dtype: ``auto`` or a dtype for convolution states.
        mamba_ssm_cache_dtype: ``auto`` or a dtype for recurrent states.
        skip_page_size_padded: Bytes that unquantised layers' pages are padded to beside others.
        num_speculative_tokens: Draft tokens per step.
        compute_capability: Of the GPU, as (major, minor); (0, 0) on AMD GPUs, whose numbers CUDA's
            rules must not take for their own.
        max_num_batched_tokens: Tokens per step.
        attention_backend: The backend asked for by name (``--attention-backend``); None for vLLM's
            own choice. For models whose layers pick their own by it.
        indexer_kv_dtype: ``--attention-config.indexer_kv_dtype``: ``auto``, ``bf16``, ``fp8``,
            ``fp8_e4m3`` or ``mxfp4``.
        indexer_sparse_logits: ``--attention-config.indexer_sparse_logits`` (DeepSeek-V4.1).
    """

    tensor_parallel_size: int
    dtype: str
    kv_cache_dtype: str
    block_size: int
    mamba_block_size: int
    compute_capability: tuple[int, int]
    max_num_batched_tokens: int
    kv_cache_dtype_skip_layers: tuple[str, ...] = ()
    mamba_page_size_padded: int | None = None
    mamba_cache_mode: str = "none"
    mamba_cache_dtype: str = "auto"
    mamba_ssm_cache_dtype: str = "auto"
    skip_page_size_padded: int | None = None
    num_speculative_tokens: int = 0
    attention_backend: str | None = None
    indexer_kv_dtype: str = "auto"
    indexer_sparse_logits: bool = False
