"""Engines with draft models: published targets, drafts in the shape of published ones.

``data/vllm_0_33_drafts.jsonl`` holds what vLLM 0.33's own planning code answers to each of them
(H100, 40 GiB of KV memory); ``test_speculative_vllm.py`` asks it again where vLLM is at hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vllm_kv_planner.records import dataclass, field

GIB = 1 << 30
RECORDED = Path(__file__).parent / "data" / "vllm_0_33_drafts.jsonl"

_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 1,
    "vocab_size": 128256,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "hidden_act": "silu",
    "torch_dtype": "float16",
    "tie_word_embeddings": False,
}
_EAGLE3 = _LLAMA | {"architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": 32000}
_LATENT: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "num_hidden_layers": 12,
    "n_routed_experts": 64,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "n_group": 8,
    "topk_group": 4,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "first_k_dense_replace": 3,
    "routed_scaling_factor": 2.5,
    "norm_topk_prob": True,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "vocab_size": 129280,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
_ERNIE: dict[str, Any] = {
    "architectures": ["Ernie4_5_MoeForCausalLM"],
    "model_type": "ernie4_5_moe",
    "hidden_size": 2560,
    "intermediate_size": 12288,
    "num_attention_heads": 20,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_hidden_layers": 28,
    "moe_num_experts": 64,
    "moe_k": 6,
    "moe_intermediate_size": 1536,
    "moe_num_shared_experts": 2,
    "moe_layer_start_index": 1,
    "moe_layer_end_index": 27,
    "moe_layer_interval": 1,
    "moe_capacity": [64, 64, 64],
    "vocab_size": 103424,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000,
    "hidden_act": "silu",
    "use_bias": False,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "num_nextn_predict_layers": 1,
}
CONFIGS: dict[str, dict[str, Any]] = {
    # the shapes of yuhuili/EAGLE3-LLaMA3.1-Instruct-8B and yuhuili/EAGLE-LLaMA3.1-Instruct-8B
    "EAGLE3-LLaMA3.1-Instruct-8B": _EAGLE3,
    "EAGLE-LLaMA3.1-Instruct-8B": _LLAMA,
    "two-layers": _EAGLE3
    | {
        "num_hidden_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 1024,
    },
    "yarn": _EAGLE3
    | {
        "max_position_embeddings": 8192,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 2048,
        },
    },
    "for-gpt-oss": _EAGLE3
    | {
        "hidden_size": 2880,
        "intermediate_size": 17280,
        "num_attention_heads": 64,
        "head_dim": 64,
        "vocab_size": 201088,
    },
    "for-gemma-3": _LLAMA
    | {
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "num_key_value_heads": 16,
        "head_dim": 128,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
    },
    "for-gemma-2": _LLAMA
    | {
        "hidden_size": 3584,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "vocab_size": 256000,
        "max_position_embeddings": 8192,
    },
    "for-mistral": _LLAMA
    | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "vocab_size": 32000},
    "for-qwen3": _LLAMA
    | {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "intermediate_size": 12288,
        "head_dim": 128,
        "vocab_size": 151936,
        "draft_vocab_size": 32000,
        "max_position_embeddings": 40960,
    },
    "speculators": {
        "architectures": ["Eagle3Speculator"],
        "speculators_model_type": "eagle3",
        "draft_vocab_size": 32000,
        "norm_before_residual": True,
        "target_hidden_size": None,
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [
                {
                    "proposal_type": "greedy",
                    "speculative_tokens": 5,
                    "verifier_accept_k": 1,
                    "accept_tolerance": 0.0,
                }
            ],
            "verifier": {
                "architectures": ["LlamaForCausalLM"],
                "name_or_path": "meta-llama/Llama-3.1-8B-Instruct",
            },
        },
        "torch_dtype": "bfloat16",
        "transformer_layer_config": _LLAMA,
    },
    "latent": _LATENT
    | {
        "architectures": ["Eagle3DeepseekV2ForCausalLM"],
        "model_type": "kimi_k2",
        "num_hidden_layers": 1,
        "num_attention_heads": 64,
        "num_key_value_heads": 64,
        "vocab_size": 163840,
        "draft_vocab_size": 163840,
        "max_position_embeddings": 131072,
    },
    "two-modules": _LATENT | {"num_nextn_predict_layers": 2},
    "Ernie-4.5": _ERNIE,
}


@dataclass(frozen=True, kw_only=True)
class DraftCase:
    """One engine.

    Attributes:
        id: Its name.
        model: The target, or a name of ``CONFIGS``.
        speculative: ``--speculative-config``; a ``model`` of ``CONFIGS`` stands for its folder.
        flags: Other engine flags.
    """

    id: str
    model: str
    speculative: dict[str, Any] = field(hash=False)
    flags: dict[str, Any] = field(hash=False)

    def arguments(self, folder: Path) -> dict[str, Any]:
        """The flags, with the draft's config written under ``folder``."""
        config = dict(self.speculative)
        if config.get("model") in CONFIGS:
            config["model"] = written(config["model"], folder)
        return {**self.flags, "speculative_config": config}

    def target(self, folder: Path) -> str:
        """The target's name or folder."""
        return written(self.model, folder) if self.model in CONFIGS else self.model


def written(name: str, folder: Path) -> str:
    """A folder with a config of ``CONFIGS``."""
    place = folder / name
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps(CONFIGS[name]))
    return str(place)


def case(id: str, model: str, speculative: dict[str, Any], **flags: Any) -> DraftCase:
    """Shorthand."""
    return DraftCase(id=id, model=model, speculative=speculative, flags=flags)


def mtp(tokens: int = 1) -> dict[str, Any]:
    """Layers of the target's own checkpoint."""
    return {"method": "mtp", "num_speculative_tokens": tokens}


def with_draft(model: str, tokens: int = 3, **more: Any) -> dict[str, Any]:
    """A draft model."""
    return {"model": model, "num_speculative_tokens": tokens, **more}


LLAMA_8B, SMALL = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.2-1B-Instruct"
EAGLE3, EAGLE = "EAGLE3-LLaMA3.1-Instruct-8B", "EAGLE-LLaMA3.1-Instruct-8B"
QWEN3_NEXT = "Qwen/Qwen3-Next-80B-A3B-Instruct"
CASES = (
    case("deepseek-v3-mtp", "deepseek-ai/DeepSeek-V3", mtp(), tensor_parallel_size=8),
    case(
        "deepseek-v3-mtp-fp8",
        "deepseek-ai/DeepSeek-V3",
        mtp(3),
        tensor_parallel_size=8,
        kv_cache_dtype="fp8",
    ),
    case(
        "deepseek-v3-mtp-pp",
        "deepseek-ai/DeepSeek-V3",
        mtp(),
        tensor_parallel_size=4,
        pipeline_parallel_size=2,
    ),
    case("deepseek-v3.2-mtp", "deepseek-ai/DeepSeek-V3.2", mtp(), tensor_parallel_size=8),
    case("deepseek-v4-mtp", "deepseek-ai/DeepSeek-V4-Flash", mtp(2), tensor_parallel_size=8),
    case("two-modules", "two-modules", mtp(4), tensor_parallel_size=2),
    case("glm-4.5-mtp", "zai-org/GLM-4.5", mtp(), tensor_parallel_size=8),
    case("qwen3-next-mtp", QWEN3_NEXT, mtp(2), tensor_parallel_size=4),
    case(
        "qwen3-next-mtp-pp-fp8",
        QWEN3_NEXT,
        mtp(2),
        tensor_parallel_size=2,
        pipeline_parallel_size=2,
        kv_cache_dtype="fp8",
    ),
    case("mimo-mtp", "XiaomiMiMo/MiMo-7B-Base", mtp(3), tensor_parallel_size=2),
    case("ernie-mtp", "Ernie-4.5", mtp()),
    case("llama-eagle3", LLAMA_8B, with_draft(EAGLE3)),
    case(
        "llama-eagle3-fp8",
        LLAMA_8B,
        with_draft(EAGLE3),
        kv_cache_dtype="fp8",
        tensor_parallel_size=2,
    ),
    case("llama-eagle3-pp", LLAMA_8B, with_draft(EAGLE3), pipeline_parallel_size=2),
    case("llama-eagle3-own-fp8", LLAMA_8B, with_draft(EAGLE3, kv_cache_dtype="fp8")),
    case("llama-eagle3-own-backend", LLAMA_8B, with_draft(EAGLE3, attention_backend="TRITON_ATTN")),
    case(
        "llama-eagle3-turboquant",
        LLAMA_8B,
        with_draft(EAGLE3),
        kv_cache_dtype="turboquant_4bit_nc",
    ),
    case("llama-eagle", LLAMA_8B, with_draft(EAGLE)),
    case("two-layers", LLAMA_8B, with_draft("two-layers", method="eagle3")),
    case("yarn-limits-the-length", LLAMA_8B, with_draft("yarn", method="eagle3")),
    case("speculators", LLAMA_8B, with_draft("speculators", 5, method="eagle3")),
    case("gpt-oss-eagle3", "openai/gpt-oss-20b", with_draft("for-gpt-oss", method="eagle3")),
    case(
        "gpt-oss-eagle3-fp8",
        "openai/gpt-oss-20b",
        with_draft("for-gpt-oss", method="eagle3"),
        kv_cache_dtype="fp8",
    ),
    case("gemma-3-eagle", "google/gemma-3-27b-it", with_draft("for-gemma-3", method="eagle")),
    case("gemma-2-eagle", "google/gemma-2-9b-it", with_draft("for-gemma-2", method="eagle")),
    case("mistral-eagle", "mistralai/Mistral-7B-v0.1", with_draft("for-mistral", method="eagle")),
    case("qwen3-eagle3", "Qwen/Qwen3-8B", with_draft("for-qwen3", method="eagle3")),
    case(
        "kimi-eagle3",
        "moonshotai/Kimi-K2-Instruct",
        with_draft("latent", method="eagle3"),
        tensor_parallel_size=8,
    ),
    case("llama-small", LLAMA_8B, with_draft(SMALL, 5)),
    case("llama-small-tp", LLAMA_8B, with_draft(SMALL, 5), tensor_parallel_size=2),
    case(
        "llama-small-tp-of-one",
        LLAMA_8B,
        with_draft(SMALL, 5, draft_tensor_parallel_size=1),
        tensor_parallel_size=2,
    ),
    case("llama-small-fp8", LLAMA_8B, with_draft(SMALL, 5), kv_cache_dtype="fp8"),
    case("llama-small-own-fp8", LLAMA_8B, with_draft(SMALL, 5, kv_cache_dtype="fp8")),
    case("llama-small-short", LLAMA_8B, with_draft(SMALL, 5, max_model_len=4096)),
    case(
        "llama-small-skipped",
        LLAMA_8B,
        with_draft(SMALL),
        kv_cache_dtype="fp8",
        kv_cache_dtype_skip_layers=["0", "1"],
    ),
    case(
        "the-older-runner",
        LLAMA_8B,
        with_draft(SMALL, 4, parallel_drafting=True),
        attention_backend="FLASHINFER",
    ),
    case("gemma-2-small", "google/gemma-2-27b-it", with_draft("google/gemma-2-2b-it")),
    case(
        "gpt-oss-small",
        "openai/gpt-oss-120b",
        with_draft("openai/gpt-oss-20b"),
        tensor_parallel_size=4,
    ),
    case(
        "a-window-for-both",
        "mistralai/Mistral-7B-v0.1",
        with_draft("TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
    ),
    case(
        "states-beside-a-wide-draft",
        QWEN3_NEXT,
        with_draft("Qwen/Qwen3-0.6B"),
        tensor_parallel_size=2,
    ),
)
