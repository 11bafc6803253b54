"""One frozen class per kind of cache layer; each answers for its own page and its own requests.

A *page* is what one layer stores in one block, in bytes. A layer's class says how large the page
is and how many blocks one request of ``max_model_len`` tokens may hold. Everything else (groups,
bytes per block, block counts) is arithmetic over these two answers.

Source: vLLM 0.33 ``v1/kv_cache_interface.py``; each class carries the name of vLLM's.
"""

from .base import AttentionSpec, KVCacheSpec, RequestLimits
from .full import FullAttentionSpec, MLAAttentionSpec
from .local import ChunkedLocalAttentionSpec, SlidingWindowMLASpec, SlidingWindowSpec
from .state import CircularBufferSpec, CrossAttentionSpec, MambaSpec

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
