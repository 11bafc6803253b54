"""Engines with draft models: published targets, drafts in the shape of published ones.

``data/draft_configs.json`` has the configs that are not bundled, ``data/vllm_0_33_drafts.jsonl``
what vLLM 0.33's own planning code answers to each engine (H100, 40 GiB of KV memory);
``test_speculative_vllm.py`` asks it again where vLLM is at hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vllm_kv_planner.records import dataclass, field

GIB = 1 << 30
RECORDED = Path(__file__).parent / "data" / "vllm_0_33_drafts.jsonl"

CONFIGS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "draft_configs.json").read_text()
)
"""Drafts, and targets that are not bundled: published models of their type, with fewer layers."""


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
    case("mimo-v2-mtp", "MiMo-V2-Flash", mtp(), tensor_parallel_size=2, kv_cache_dtype="fp8"),
    case("k-exaone-mtp", "K-EXAONE", mtp()),
    case("step-3.5-three-modules", "Step-3.5", mtp(3)),
    case("ling-2.5-mtp", "Ling-2.5", mtp(2), tensor_parallel_size=2),
    case("longcat-mtp", "LongCat-Flash", mtp()),
    case("glm-4.7-flash-mtp", "GLM-4.7-Flash", mtp()),
    case("hy-3-mtp", "HY-3", mtp()),
    case("qwen3.5-mtp", "Qwen/Qwen3.5-27B", mtp(2), enable_prefix_caching=False),
    case(
        "nemotron-3-mtp",
        "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8",
        mtp(3),
        tensor_parallel_size=4,
    ),
    case("glm-5.3-flash-mtp", "zai-org/GLM-5.3-Flash", mtp(2), tensor_parallel_size=8),
    case("minimax-m3-mtp", "nvidia/MiniMax-M3-NVFP4", mtp(), tensor_parallel_size=8),
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
    case("qwen3-dflash", "Qwen/Qwen3-8B", with_draft("Qwen3-8B-DFlash-b16", 15)),
    case(
        "qwen3-dflash-own-backend",
        "Qwen/Qwen3-8B",
        with_draft("Qwen3-8B-DFlash-b16", 15),
        attention_backend="FLASHINFER",
    ),
    case(
        "dflash-mixed",
        "Qwen/Qwen3-8B",
        with_draft("DFlash-mixed", 15, method="dflash"),
        tensor_parallel_size=2,
        kv_cache_dtype="fp8",
    ),
    case("dflash-windows", "Qwen/Qwen3-8B", with_draft("DFlash-windows", 7)),
    case("dflash-causal", "Qwen/Qwen3-8B", with_draft("DFlash-causal", 7)),
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
    case(
        "states-in-the-draft",
        "nvidia/Nemotron-3-Nano",
        with_draft("nvidia/Nemotron-3-Nano"),
        tensor_parallel_size=2,
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
