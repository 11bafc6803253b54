"""Small workloads on tiny engines: their truth is in ``tests/data``, so no vLLM is needed."""

from __future__ import annotations

from typing import Any

from tests.workload_cases import Case, made

_TINY: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "torch_dtype": "bfloat16",
}
CONFIGS: dict[str, dict[str, Any]] = {
    "tiny-qwen2": {**_TINY, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
    "tiny-gemma3": {
        **_TINY,
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "head_dim": 64,
        "num_hidden_layers": 12,
        "sliding_window": 64,
        "sliding_window_pattern": 6,
        "query_pre_attn_scalar": 64,
    },
    "tiny-llama4": {
        "architectures": ["Llama4ForConditionalGeneration"],
        "model_type": "llama4",
        "text_config": {
            **_TINY,
            "model_type": "llama4_text",
            "attention_chunk_size": 128,
            "head_dim": 64,
            "intermediate_size_mlp": 512,
            "interleave_moe_layer_step": 1,
            "num_experts_per_tok": 1,
            "num_hidden_layers": 4,
            "num_local_experts": 2,
            "pad_token_id": 0,
        },
        "torch_dtype": "bfloat16",
        "vision_config": {
            "hidden_size": 64,
            "image_size": 28,
            "intermediate_size": 64,
            "model_type": "llama4_vision_model",
            "num_attention_heads": 2,
            "num_hidden_layers": 1,
            "patch_size": 14,
            "projector_input_dim": 64,
            "projector_output_dim": 64,
            "vision_output_dim": 64,
        },
    },
    "tiny-qwen3-next": {
        **_TINY,
        "architectures": ["Qwen3NextForCausalLM"],
        "model_type": "qwen3_next",
        "decoder_sparse_step": 1,
        "full_attention_interval": 4,
        "head_dim": 64,
        "hidden_act": "silu",
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 64,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_value_head_dim": 64,
        "moe_intermediate_size": 64,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "num_hidden_layers": 4,
        "shared_expert_intermediate_size": 64,
    },
    "tiny-deepseek-v2": {
        **_TINY,
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "first_k_dense_replace": 1,
        "kv_lora_rank": 512,
        "moe_intermediate_size": 64,
        "n_group": 1,
        "n_routed_experts": 2,
        "n_shared_experts": 1,
        "num_experts_per_tok": 1,
        "num_key_value_heads": 4,
        "q_lora_rank": None,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "topk_group": 1,
        "topk_method": "greedy",
        "v_head_dim": 128,
    },
}

_ARGS: dict[str, Any] = {"max_model_len": 1024, "max_num_batched_tokens": 256, "max_num_seqs": 16}


def _case(name: str, blocks: int, trace: Any, model: str = "tiny-qwen2", **more: Any) -> Case:
    args = {**_ARGS, "num_gpu_blocks_override": blocks, **more.pop("args", {})}
    return Case(name, model, args, trace, **more)


SMALL_CASES = (
    _case("plain", 200, made(1, 40, (5, 200), (1, 30), gap=2.0), step_time=0.5),
    _case(
        "plain_sync",
        200,
        made(1, 40, (5, 200), (1, 30), gap=2.0),
        args={"async_scheduling": False},
    ),
    _case("prefix", 80, made(2, 50, (1, 100), (1, 20), gap=1.0, shared=(37, 100, 32))),
    _case(
        "long_context",
        100,
        made(3, 20, (100, 900), (1, 15), gap=5.0),
        args={"long_prefill_token_threshold": 100},
    ),
    _case("preempting", 70, made(4, 24, (5, 60), (10, 90))),
    _case(
        "preempting_sync",
        70,
        made(4, 24, (5, 60), (10, 90)),
        args={"async_scheduling": False},
    ),
    _case(
        "priority",
        70,
        made(5, 24, (5, 60), (10, 90), gap=3.0),
        flags={"scheduling_policy": "priority", "watermark": 0.05},
    ),
    _case(
        "closed_loop",
        50,
        made(6, 40, (1, 300), (1, 30), shared=(60,)),
        concurrency=6,
        args={"max_model_len": 320},
    ),
    _case(
        "sliding",
        420,
        made(7, 30, (5, 300), (1, 40), gap=3.0, shared=(30, 100)),
        "tiny-gemma3",
    ),
    _case(
        "chunked",
        280,
        made(8, 30, (5, 300), (1, 40), gap=3.0, shared=(30, 150)),
        "tiny-llama4",
    ),
    _case("mla", 70, made(9, 30, (5, 300), (1, 40), gap=3.0, shared=(70, 64)), "tiny-deepseek-v2"),
    _case(
        "mamba",
        40,
        made(10, 30, (5, 500), (1, 40), gap=4.0, shared=(100, 300)),
        "tiny-qwen3-next",
        args={"enable_prefix_caching": True},
    ),
    _case(
        "mamba_uncached",
        30,
        made(11, 30, (5, 500), (1, 40), gap=2.0),
        "tiny-qwen3-next",
        args={"enable_prefix_caching": False},
    ),
)
