"""Models whose every layer is latent attention, with or without an indexer.

Source: vLLM 0.33 ``model_executor/models/deepseek_v2.py``, ``models/deepseek_v32/attention.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..layers.attention import Attention
from ..layers.base import CacheLayer
from ..layers.latent import Indexer, LatentAttention
from .blocks import everywhere
from .reader import ModelReader


def latent(model: ModelReader) -> LatentAttention:
    """The latent attention the config describes."""
    text = model.text
    return LatentAttention(
        index=0,
        num_heads=model.num_attention_heads,
        kv_lora_rank=text.int("kv_lora_rank"),
        qk_rope_head_dim=text.int("qk_rope_head_dim", default=0, minimum=0),
    )


def deepseek(model: ModelReader) -> Sequence[CacheLayer]:
    """DeepSeek V2 to V3.1, Kimi K2, and what shares their layers.

    A config without latent dimensions (DeepSeek-MoE, DeepSeek-OCR) is plain attention; one that
    is not causal (embedding models) stores what the latent stands for: every head's full key.
    """
    text = model.text
    nope = text.int("qk_nope_head_dim", default=0, minimum=0)
    rope = text.int("qk_rope_head_dim", default=0, minimum=0)
    if not nope + rope or text.str("model_type", default="") == "deepseek":
        plain = Attention(
            index=0,
            num_heads=model.num_attention_heads,
            num_kv_heads=model.num_kv_heads,
            head_size=text.int("hidden_size") // model.num_attention_heads,
        )
        return everywhere(model, plain)
    if not text.bool("is_causal", default=True):
        expanded = Attention(
            index=0,
            num_heads=model.num_attention_heads,
            num_kv_heads=model.num_attention_heads,
            head_size=nope + rope,
            attn_type="encoder_only",
        )
        return everywhere(model, expanded)
    if text.get("index_topk") is not None:
        return sparse(model)
    return everywhere(model, latent(model))


def sparse(model: ModelReader) -> Sequence[CacheLayer]:
    """DeepSeek sparse attention (V3.2, GLM-5): latents, and an indexer's keys where it has one."""
    template = latent(model)
    layers: list[CacheLayer] = []
    head_dim = model.text.int("index_head_dim", default=128)
    for index, reuses in enumerate(reuses_index(model)):
        if not reuses:
            layers.append(Indexer(index=index, head_dim=head_dim))
        layers.append(
            LatentAttention(
                index=index,
                num_heads=template.num_heads,
                kv_lora_rank=template.kv_lora_rank,
                qk_rope_head_dim=template.qk_rope_head_dim,
                use_sparse=True,
                leads_index_group=not reuses,
            )
        )
    return layers


def reuses_index(model: ModelReader) -> list[bool]:
    """Per layer, whether it attends to what an earlier layer's indexer chose.

    Either a pattern with one letter a layer, ``S`` sharing, or every n-th layer past an offset
    has its own.
    """
    text = model.text
    count = model.num_hidden_layers
    pattern = text.get("index_topk_pattern")
    if pattern is not None:
        if not isinstance(pattern, str | list):
            raise text.error("index_topk_pattern", "must be a string of F and S")
        return [index < len(pattern) and pattern[index] == "S" for index in range(count)]
    every = text.int("index_topk_freq", default=1)
    offset = text.int("index_skip_topk_offset", default=2, minimum=0)
    return [max(index - offset + 1, 0) % every != 0 for index in range(count)]
