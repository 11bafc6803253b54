"""Layers and devices that the tests of attention backends share."""

from __future__ import annotations

from vllm_kv_planner.engine_args.attention_backend import EngineFacts
from vllm_kv_planner.model.layers.base import BackendRequest

HOPPER, BLACKWELL = (9, 0), (10, 0)
LLAMA = BackendRequest(
    head_size=128, dtype="bfloat16", kv_cache_dtype="auto", num_heads=32, num_kv_heads=8
)
DEEPSEEK = BackendRequest(
    head_size=576,
    dtype="bfloat16",
    kv_cache_dtype="auto",
    num_heads=16,
    num_kv_heads=1,
    use_mla=True,
)
V3 = EngineFacts(
    head_size=576,
    num_attention_heads=16,
    num_kv_heads=1,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    kv_lora_rank=512,
    index_topk=2048,
)
