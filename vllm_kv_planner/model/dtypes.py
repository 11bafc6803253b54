"""Bytes of an element, by vLLM's names of dtypes.

Source: vLLM 0.33 ``utils/torch_utils.py`` ``STR_DTYPE_TO_TORCH_DTYPE``: every quantised KV cache
dtype is stored in one-byte elements; packing is the attention backend's (``customize_spec``).
"""

from __future__ import annotations

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "half": 2, "float": 4}


def kv_cache_element_bytes(kv_cache_dtype: str, dtype: str) -> int:
    """Bytes of one stored KV element: the model's dtype under ``auto``, one where quantised."""
    return DTYPE_BYTES.get(dtype if kv_cache_dtype == "auto" else kv_cache_dtype, 1)
