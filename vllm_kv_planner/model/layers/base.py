"""A cache layer as a model's config describes it, and what it must know of the engine.

Source: vLLM 0.33 ``v1/attention/selector.py`` ``AttentionSelectorConfig``;
``utils/torch_utils.py`` ``STR_DTYPE_TO_TORCH_DTYPE``: every quantised KV cache dtype is stored in
one-byte elements; packing is the attention backend's (``customize_spec``).
"""

from __future__ import annotations

from typing import Protocol

from ...errors import InputError
from ...kv_cache.specs import AttentionSpec, KVCacheSpec
from ...records import dataclass


@dataclass(frozen=True, kw_only=True)
class BackendRequest:
    """One layer's needs; layers with equal requests get the same backend.

    Attributes:
        head_size: Width of a key in elements (MLA: latent plus rope).
        head_size_v: Width of a value, where it differs; None like the key.
        dtype: The model's resolved dtype: ``bfloat16``, ``float16`` or ``float32``.
        kv_cache_dtype: The layer's KV cache dtype, vLLM's name, ``auto`` unresolved.
        num_heads: Query heads on this rank (sparse MLA's order depends on it).
        num_kv_heads: KV heads on this rank.
        use_mla: Latent attention.
        use_sparse: Sparse latent attention (with an indexer).
        has_sink: Learned attention sinks (gpt-oss).
        has_sliding_window: The layer attends within a window.
        use_mm_prefix: Images attend in both directions (Gemma 3, PaliGemma, …).
        use_per_head_quant_scales: Checkpoint stores KV scales per head.
        use_non_causal: Draft models that do not mask.
        attn_type: ``decoder``, ``encoder_only``, ``encoder`` or ``encoder_decoder``.
        use_rswa: Reference sliding window attention.
    """

    head_size: int
    dtype: str
    kv_cache_dtype: str
    num_heads: int
    num_kv_heads: int
    head_size_v: int | None = None
    use_mla: bool = False
    use_sparse: bool = False
    has_sink: bool = False
    has_sliding_window: bool = False
    use_mm_prefix: bool = False
    use_per_head_quant_scales: bool = False
    use_non_causal: bool = False
    attn_type: str = "decoder"
    use_rswa: bool = False


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


DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "half": 2, "float": 4}


def kv_cache_element_bytes(kv_cache_dtype: str, dtype: str) -> int:
    """Bytes of one stored KV element: the model's dtype under ``auto``, one where quantised."""
    return DTYPE_BYTES.get(dtype if kv_cache_dtype == "auto" else kv_cache_dtype, 1)


@dataclass(frozen=True, kw_only=True)
class CacheLayer:
    """One layer that vLLM registers for a cache.

    Attributes:
        index: Decoder layer it belongs to; pipeline stages are cut along these. Rules make a layer
            without, and number its copies.
        fixed: Backend that its class, or the model's code, insists on.
    """

    index: int = 0
    fixed: str | None = None

    def backend_request(self, context: CacheContext) -> BackendRequest | None:
        """What to ask the backend selector; None for states, which choose none."""
        return None

    def fixed_backend(self, context: CacheContext) -> str | None:
        """Name of the backend the layer's class insists on, where it does."""
        return self.fixed

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec | None:
        """Its cache on one rank; None where it keeps nothing of its own."""
        raise TypeError(f"{type(self).__name__} says nothing of its cache")


def as_packed(spec: AttentionSpec, backend: Backend | None) -> AttentionSpec:
    """The spec as the layer's backend packs it."""
    return spec if backend is None else backend.customize(spec)


def per_rank(total: int, context: CacheContext, what: str) -> int:
    """A tensor-parallel rank's share of ``total``.

    Raises:
        InputError: The ranks cannot share evenly, which vLLM refuses.
    """
    ranks = context.tensor_parallel_size
    if total % ranks:
        raise InputError(f"--tensor-parallel-size {ranks}: must divide the model's {total} {what}")
    return total // ranks
