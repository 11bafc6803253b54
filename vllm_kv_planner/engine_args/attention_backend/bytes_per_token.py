"""Bytes that one token takes in one attention layer, as block-size alignment counts them.

vLLM counts with the model's own head size and KV heads, whatever single layers have.

Source: vLLM 0.33 ``platforms/interface.py`` ``_align_hybrid_block_size`` and
``_align_heterogeneous_kv_block_size``.
"""

from __future__ import annotations

from math import lcm

from ...kv_cache.specs import AttentionSpec, FullAttentionSpec, MLAAttentionSpec
from ...model.dtypes import kv_cache_element_bytes
from .backend import AttentionBackend
from .packing import TURBOQUANT_BITS, turboquant, ultraquant


def layer_bytes_per_token(
    backend: AttentionBackend, *, dtype: str, kv_cache_dtype: str, use_mla: bool = False
) -> int:
    """One token of one layer in this KV cache dtype, packed by the backend.

    Args:
        backend: The model's first attention backend; its facts hold head size and KV heads.
        dtype: The model's dtype.
        kv_cache_dtype: Of the layer; ``auto`` is the model's dtype.
        use_mla: Latent attention, whose packing is not looked at.
    """
    spec = one_token(backend, dtype, kv_cache_dtype, use_mla=use_mla)
    return spec.page_size_bytes if use_mla else backend.pack(spec).page_size_bytes


def hybrid_bytes_per_token(
    backend: AttentionBackend,
    *,
    dtype: str,
    kv_cache_dtype: str,
    use_mla: bool,
    has_skip_layers: bool,
) -> int:
    """What alignment with states reckons with.

    With TurboQuant or UltraQuant and unquantised layers beside, pages of both kinds must fit:
    the least common multiple.
    """
    spec = one_token(backend, dtype, kv_cache_dtype, use_mla=use_mla)
    packed = kv_cache_dtype in TURBOQUANT_BITS or kv_cache_dtype == "ultraquant_4bit"
    if use_mla or not packed:
        return layer_bytes_per_token(
            backend, dtype=dtype, kv_cache_dtype=kv_cache_dtype, use_mla=use_mla
        )
    pack = ultraquant if kv_cache_dtype == "ultraquant_4bit" else turboquant
    page = pack(spec, backend.capability).page_size_bytes
    if not has_skip_layers:
        return page
    return lcm(page, one_token(backend, dtype, "auto", use_mla=False).page_size_bytes)


def one_token(
    backend: AttentionBackend, dtype: str, kv_cache_dtype: str, *, use_mla: bool
) -> AttentionSpec:
    """A layer of the model's own widths with a block of one token."""
    facts = backend.facts
    kind = MLAAttentionSpec if use_mla else FullAttentionSpec
    return kind(
        block_size=1,
        num_kv_heads=1 if use_mla else facts.num_kv_heads,
        head_size=facts.head_size,
        head_size_v=0 if use_mla else facts.head_size,
        dtype_bytes=kv_cache_element_bytes(kv_cache_dtype, dtype),
        kv_cache_dtype=kv_cache_dtype,
    )
