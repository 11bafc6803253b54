"""Models whose every layer is latent attention.

Source: vLLM 0.33 ``model_executor/models/``: ``deepseek_v2.py``, ``glm4_moe_lite.py``, ``AXK1.py``,
``sarvam.py``, ``longcat_flash.py``, ``openpangu.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UnsupportedError
from ...records import replace
from ..layers.attention import Attention
from ..layers.base import CacheLayer
from .blocks import attention, even_head_size, everywhere, latent
from .general import is_latent
from .reader import ModelReader
from .sparse_mla import sparse


def latents(model: ModelReader) -> Sequence[CacheLayer]:
    """Latent attention in every layer, whatever vLLM counts the model as (Sarvam)."""
    return everywhere(model, latent(model))


def expanded(model: ModelReader) -> Attention:
    """What the latent stands for: every head's own key, values padded to its width."""
    text = model.text
    width = text.int("qk_nope_head_dim", default=0, minimum=0)
    return Attention(
        index=0,
        num_heads=model.num_attention_heads,
        num_kv_heads=model.num_attention_heads,
        head_size=width + text.int("qk_rope_head_dim", default=0, minimum=0),
        attn_type="decoder" if model.is_causal else "encoder_only",
    )


def deepseek(model: ModelReader) -> Sequence[CacheLayer]:
    """DeepSeek V2 to V3.1, Kimi K2, and what shares their layers.

    A config without latent dimensions (DeepSeek-MoE, DeepSeek-OCR) is plain attention. One whose
    type vLLM does not run with latents, or that is not causal (embeddings), stores expanded keys.
    """
    text = model.text
    widths = ("qk_nope_head_dim", "qk_rope_head_dim")
    has_latent = any(text.int(key, default=0, minimum=0) for key in widths)
    if not has_latent or text.str("model_type", default="") == "deepseek":
        return everywhere(model, attention(model, head_size=even_head_size(model)))
    if not is_latent(text) or not model.is_causal:
        return everywhere(model, expanded(model))
    return sparse(model) if text.get("index_topk") is not None else latents(model)


def longcat(model: ModelReader) -> Sequence[CacheLayer]:
    """LongCat-Flash: two latent layers in each of its ``num_layers``."""
    text = model.text
    if text.get("index_topk") is not None:
        raise UnsupportedError(f"{text.where}: LongCat with an indexer is not known to vLLM 0.33")
    pair = [latent(model)] * 2
    return [replace(one, index=index) for index in range(text.int("num_layers")) for one in pair]


def pangu(model: ModelReader) -> Sequence[CacheLayer]:
    """openPangu Ultra MoE: latents where the config has all their widths."""
    text = model.text
    widths = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank")
    if all(text.get(key) is not None for key in widths):
        return latents(model)
    raise UnsupportedError(
        f"{text.where}: an openPangu Ultra MoE without latent widths ({', '.join(widths)})"
    )
