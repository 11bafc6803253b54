"""Latent attention (MLA): one compressed row per token, on every rank alike.

Source: vLLM 0.33 ``model_executor/layers/attention/mla_attention.py`` ``MLAAttention``.
"""

from __future__ import annotations

from ...errors import InputError
from ...kv_cache.specs import KVCacheSpec, MLAAttentionSpec, SlidingWindowMLASpec
from ...records import dataclass
from .base import (
    Backend,
    BackendRequest,
    CacheContext,
    CacheLayer,
    as_packed,
    kv_cache_element_bytes,
    per_rank,
)

DS_MLA_BYTES = {"fp8_ds_mla": 656, "nvfp4_ds_mla": 352}
"""Bytes of one token's row where latent, rope part and scales are packed into one blob.

fp8: 512 latents of one byte, 4 float32 scales, 64 rope values of two bytes. NVFP4: 256 bytes of
latents, 32 scales, 64 bytes of rope (``flashmla_sparse.py``).
"""


FLASHMLA_SPARSE = ("FLASHMLA_SPARSE", "HYV4_FLASHMLA_SPARSE")
"""Backends that vLLM calls ``FLASHMLA_SPARSE``."""


def stored_kv_cache_dtype(kv_cache_dtype: str, backend: Backend | None) -> str:
    """The format a sparse backend stores, which may not be the one asked for.

    Source: ``_canonicalize_sparse_mla_kv_cache_dtype``.
    """
    name = "" if backend is None else backend.name
    if name in FLASHMLA_SPARSE and is_quantized(kv_cache_dtype):
        return kv_cache_dtype if kv_cache_dtype == "nvfp4_ds_mla" else "fp8_ds_mla"
    if name == "FLASHINFER_MLA_SPARSE_SM120" and kv_cache_dtype in ("auto", "fp8", "fp8_e4m3"):
        return "fp8_ds_mla"
    return kv_cache_dtype


def is_quantized(kv_cache_dtype: str) -> bool:
    """Whether a format stores less than 16 bits a value."""
    return kv_cache_dtype not in ("auto", "bfloat16", "float16")


PREFILL_WIDTHS = ((128, 64, 128), (192, 64, 256), (64, 64, 128), (256, 0, 256))
"""Head widths that FlashAttention's MLA prefill takes on CUDA, and with it any other backend's.

Source: vLLM 0.33 ``v1/attention/backends/mla/prefill/flash_attn.py`` ``supports_mla_dimensions``.
"""


@dataclass(frozen=True, kw_only=True)
class LatentAttention(CacheLayer):
    """Multi-head latent attention.

    Attributes:
        num_heads: Query heads of the whole model.
        kv_lora_rank: Width of the latent, in elements.
        qk_rope_head_dim: Width of the rope part beside it, in elements.
        use_sparse: It attends to the tokens an indexer chose.
        leads_index_group: It has an indexer of its own (others reuse an earlier layer's choice).
        heeds_skip_layers: Whether ``--kv-cache-dtype-skip-layers`` means this class too.
        prefill_widths: Unturned key, turned key and value of a head, in elements, as prefill
            expands the latent; None where nobody expands it.
    """

    num_heads: int
    kv_lora_rank: int
    qk_rope_head_dim: int
    use_sparse: bool = False
    leads_index_group: bool = False
    heeds_skip_layers: bool = True
    prefill_widths: tuple[int, int, int] | None = None

    @property
    def head_size(self) -> int:
        """Width of one token's row, in elements."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def stored_head_size(self) -> int:
        """Width of the row as stored, in elements."""
        return self.head_size

    def layer_kv_cache_dtype(self, context: CacheContext) -> str:
        """The layer's own KV dtype: skipped layers stay in the model's."""
        skipped = str(self.index) in context.kv_cache_dtype_skip_layers
        return "auto" if skipped and self.heeds_skip_layers else context.kv_cache_dtype

    def backend_request(self, context: CacheContext) -> BackendRequest | None:
        """As ``MLAAttention.__init__`` asks for it."""
        return BackendRequest(
            head_size=self.head_size,
            dtype=context.dtype,
            kv_cache_dtype=self.layer_kv_cache_dtype(context),
            num_heads=max(1, self.num_heads // context.tensor_parallel_size),
            num_kv_heads=1,
            use_mla=True,
            use_sparse=self.use_sparse,
        )

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """One row a token, in the format the backend stores."""
        per_rank(self.num_heads, context, "attention heads")
        self._check_prefill(context)
        stored = stored_kv_cache_dtype(self.layer_kv_cache_dtype(context), backend)
        spec = MLAAttentionSpec(
            block_size=context.block_size,
            head_size=self.stored_head_size,
            dtype_bytes=kv_cache_element_bytes(stored, context.dtype),
            kv_cache_dtype=stored,
            state_content_bytes=DS_MLA_BYTES.get(stored),
            variant="leader" if self.leads_index_group else "",
        )
        return as_packed(spec, backend)

    def _check_prefill(self, context: CacheContext) -> None:
        """Some prefill backend runs heads of these widths (``mla/prefill/selector.py``)."""
        if self.use_sparse or context.compute_capability[0] == 0 or self.prefill_widths is None:
            return
        if self.prefill_widths not in PREFILL_WIDTHS:
            names = "qk_nope_head_dim, qk_rope_head_dim, v_head_dim"
            known = "; ".join(", ".join(map(str, widths)) for widths in PREFILL_WIDTHS)
            own = ", ".join(map(str, self.prefill_widths))
            raise InputError(
                f"No valid MLA prefill backend found for {names} of {own}; there are ones for "
                f"{known}"
            )


@dataclass(frozen=True, kw_only=True)
class LatentAfterSparse(LatentAttention):
    """Dense latents behind sparse ones, whose packed format vLLM then takes for the whole model.

    No dense backend reads packed rows, so such models start with an unquantised cache only.
    """

    def layer_kv_cache_dtype(self, context: CacheContext) -> str:
        """Packed where FlashMLA stored the sparse layers (Hopper, data-centre Blackwell)."""
        dtype = super().layer_kv_cache_dtype(context)
        packs = context.compute_capability[0] in (9, 10) and is_quantized(dtype)
        return "fp8_ds_mla" if packs else dtype


@dataclass(frozen=True, kw_only=True)
class WindowedLatentAttention(LatentAttention):
    """Latent attention within a window (dots3 NOTE).

    Attributes:
        sliding_window: Tokens it looks back on.
    """

    sliding_window: int

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """One row a token of the window."""
        per_rank(self.num_heads, context, "attention heads")
        stored = self.layer_kv_cache_dtype(context)
        spec = SlidingWindowMLASpec(
            block_size=context.block_size,
            head_size=self.head_size,
            dtype_bytes=kv_cache_element_bytes(stored, context.dtype),
            kv_cache_dtype=stored,
            state_content_bytes=DS_MLA_BYTES.get(stored),
            sliding_window=self.sliding_window,
        )
        return as_packed(spec, backend)


@dataclass(frozen=True, kw_only=True)
class PaddedLatentAttention(LatentAttention):
    """Sparse latents padded to the width of the windowed ones beside them (dots3 NOTE).

    Source: vLLM 0.33 ``models/dots3_note/nvidia/attention.py`` ``Dots3NotePaddedMLAAttention``.

    Attributes:
        padded_head_size: Width of the padded row, in elements.
    """

    padded_head_size: int

    @property
    def stored_head_size(self) -> int:
        """As padded."""
        return self.padded_head_size

    def cache_spec(self, context: CacheContext, backend: Backend | None) -> KVCacheSpec:
        """One padded row a token; its kernel reads 16 bits a value only."""
        dtype = self.layer_kv_cache_dtype(context)
        if is_quantized(dtype):
            raise InputError(
                f"--kv-cache-dtype {dtype}: FlashAttention's sparse MLA reads bfloat16 and "
                "float16 only"
            )
        return super().cache_spec(context, backend)


@dataclass(frozen=True, kw_only=True)
class SinkLatentAttention(LatentAttention):
    """Sparse latents with learned sinks (HY V4), which only its own FlashMLA kernel applies.

    Source: vLLM 0.33 ``models/hy_v4/nvidia/attention.py`` ``_resolve_sink_backend``. Where that
    kernel cannot run, vLLM drops the sinks and takes the usual backend.

    Attributes:
        has_sink: Whether there are sinks.
    """

    has_sink: bool = True

    def fixed_backend(self, context: CacheContext) -> str | None:
        """Its own on Hopper and data-centre Blackwell, for the formats FlashMLA reads."""
        formats = ("auto", "bfloat16", "fp8", "fp8_ds_mla", "nvfp4_ds_mla")
        runs = context.compute_capability[0] in (9, 10)
        readable = self.layer_kv_cache_dtype(context) in formats
        return "HYV4_FLASHMLA_SPARSE" if self.has_sink and runs and readable else self.fixed
