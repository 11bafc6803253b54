"""What the defaults need to know of the model: a small record, filled from ``model/``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..records import dataclass, field


@dataclass(frozen=True, kw_only=True)
class PoolingFacts:
    """How a pooling model pools (vLLM's PoolerConfig after its defaults)."""

    seq_pooling_type: str = "LAST"
    """CLS, LAST or MEAN: the user's, else sentence-transformers', else the model's."""
    tok_pooling_type: str = "ALL"
    """ALL or STEP."""
    default_seq_pooling_type: str = "LAST"
    """The model class's own; CLS means it attends in both directions."""
    attn_type: str = "decoder"
    """The model class's: decoder, encoder_only …"""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model as the engine's defaults see it. Names follow vLLM's ModelConfig."""

    architecture: str
    model_type: str
    """``model_type`` of the whole config."""
    config: Mapping[str, Any] = field(hash=False)
    """The whole config.json, ``--hf-overrides`` applied."""
    text_config: Mapping[str, Any] = field(hash=False)
    """The language model's part of it (the whole for text models)."""
    runner_type: str = "generate"
    """generate, pooling or draft."""
    pooling: PoolingFacts | None = None
    """Set for pooling models."""
    quantization: str | None = None
    """Resolved method: the flag's, else the checkpoint's ``quant_method``."""
    num_hidden_layers: int
    num_attention_heads: int
    """0 for attention-free models."""
    num_kv_heads: int
    """Of the whole model, before tensor parallelism."""
    vocab_size: int = 0
    is_hybrid: bool = False
    is_attention_free: bool = False
    is_encoder_decoder: bool = False
    is_multimodal: bool = False
    is_mm_prefix_lm: bool = False
    """Images attend in both directions (Gemma 3, PaliGemma …), and images are allowed."""
    is_moe: bool = False
    is_diffusion: bool = False
    use_mla: bool = False
    supports_pp: bool = True

    @property
    def quantization_config(self) -> Mapping[str, Any] | None:
        """The checkpoint's, from the whole config as ``resolve_kv_cache_dtype_string`` reads it."""
        value = self.config.get("quantization_config")
        return value if isinstance(value, Mapping) else None

    @property
    def attn_type(self) -> str:
        """decoder, encoder_only, hybrid, attention_free, encoder_decoder or the pooler's own.

        As ``ModelConfig.attn_type`` (vllm/config/model.py, 0.33).
        """
        if self.pooling is not None:
            if self.pooling.default_seq_pooling_type == "CLS":
                return "encoder_only"
            causal = self.config.get("is_causal", True)
            return self.pooling.attn_type if causal else "encoder_only"
        if self.is_hybrid:
            return "hybrid"
        if self.is_attention_free:
            return "attention_free"
        return "encoder_decoder" if self.is_encoder_decoder else "decoder"
