"""Models and a call that the tests of weights share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm_kv_planner.engine_args.engine_args import EngineArgs
from vllm_kv_planner.engine_args.quantization import resolve_quantization
from vllm_kv_planner.memory.weights import WeightsEstimate, weights_per_rank
from vllm_kv_planner.model.describe import describe

GIB = 1 << 30


BF16 = 2


LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


# Four float32 scales that every attention layer registers.
SCALES = 4 * 4


ROPE_8B = 131072 * 128 * BF16


QWEN3_MOE: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "moe_intermediate_size": 768,
    "intermediate_size": 6144,
    "head_dim": 128,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "num_hidden_layers": 48,
    "max_position_embeddings": 40960,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}


def estimate(
    config: Mapping[str, Any],
    *,
    dtype: str = "bfloat16",
    capability: tuple[int, int] = (9, 0),
    version: tuple[int, int] = (0, 33),
    platform: str = "cuda",
    draft_method: str | None = None,
    draft: Mapping[str, Any] | None = None,
    **flags: Any,
) -> WeightsEstimate:
    """The estimate of a config under flags of EngineArgs."""
    args = EngineArgs(**flags)
    model = describe(config, where="test")
    method = resolve_quantization(args.quantization, config, architecture=model.architecture)
    return weights_per_rank(
        model,
        args,
        dtype=dtype,
        method=method,
        compute_capability=capability,
        version=version,
        platform=platform,
        draft_method=draft_method,
        draft=None if draft is None else describe(draft, where="draft"),
    )
