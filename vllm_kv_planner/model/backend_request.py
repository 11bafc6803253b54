"""What vLLM asks its attention-backend selector for one layer.

Source: vLLM 0.33 ``v1/attention/selector.py`` ``AttentionSelectorConfig``.
"""

from __future__ import annotations

from ..records import dataclass


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
