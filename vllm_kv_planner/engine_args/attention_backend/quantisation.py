"""Kinds of quantised KV cache dtypes, by vLLM's names.

Source: vLLM 0.33 ``v1/kv_cache_interface.py`` ``get_kv_quant_mode``.
"""

from __future__ import annotations

PER_TOKEN_HEAD = ("int4_per_token_head", "int8_per_token_head", "fp8_per_token_head")
QUANTISED_PREFIXES = ("fp8", "nvfp4", "turboquant_", "octave_")
QUANTISED_NAMES = (*PER_TOKEN_HEAD, "ultraquant_4bit")


def is_quantised(kv_cache_dtype: str) -> bool:
    """Whether values are stored in other than the model's floats."""
    return kv_cache_dtype.startswith(QUANTISED_PREFIXES) or kv_cache_dtype in QUANTISED_NAMES


def is_per_token_head(kv_cache_dtype: str) -> bool:
    """Whether each token's head carries its own scale."""
    return kv_cache_dtype in PER_TOKEN_HEAD


def is_nvfp4(kv_cache_dtype: str) -> bool:
    """Whether it is packed fp4 with block scales (the latent format not among them)."""
    return kv_cache_dtype.startswith("nvfp4") and kv_cache_dtype != "nvfp4_ds_mla"


def is_fp8_per_tensor(kv_cache_dtype: str) -> bool:
    """Whether it is 8-bit floats with one scale a tensor (latent packing counts as such)."""
    return kv_cache_dtype.startswith("fp8") and not is_per_token_head(kv_cache_dtype)
