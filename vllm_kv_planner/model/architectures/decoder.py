"""Decoders whose layers differ in nothing but their window.

Source: vLLM 0.33 ``model_executor/models/llama.py`` and the many classes like it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ..layers.attention import Attention
from .reader import ModelReader

Windows = Callable[[ModelReader, int], int | None]


def decoder(model: ModelReader) -> list[Attention]:
    """One attention layer per decoder layer.

    Options: ``head_size``: ``divided`` where the class ignores ``head_dim``. ``windows``: how a
    layer finds its own window (``WINDOWS``). ``no_model_window``: the class clears the model's
    window. ``kv_heads``: how the class counts them, if not as vLLM does in general (``KV_HEADS``).
    ``both_ways``: the class heeds ``is_causal``. ``sinks``: learned sinks in every layer.
    ``no_cache_config``: the class passes layers no cache config.
    """
    options = model.options
    template = attention(model)
    window_of = WINDOWS[options.get("windows", "none")]
    no_fallback = options.get("no_model_window") or options.get("no_cache_config")
    fallback = None if no_fallback else model.model_window
    layers = []
    for index in range(model.num_hidden_layers):
        window = window_of(model, index)
        layers.append(
            replace(
                template, index=index, sliding_window=fallback if window is None else window
            )
        )
    return layers


def attention(model: ModelReader) -> Attention:
    """A layer with the config's heads, as the row's options shape it."""
    options = model.options
    both_ways = bool(options.get("both_ways")) and not model.is_causal
    return Attention(
        index=0,
        num_heads=model.num_attention_heads,
        num_kv_heads=KV_HEADS[options.get("kv_heads", "general")](model),
        head_size=divided(model) if options.get("head_size") == "divided" else model.head_size,
        attn_type="encoder_only" if both_ways else "decoder",
        has_sink=bool(options.get("sinks")),
        no_cache_config=bool(options.get("no_cache_config")),
        use_mm_prefix=model.use_mm_prefix,
    )


def minicpm3(model: ModelReader) -> list[Attention]:
    """Latent in its weights only: the cache holds every head's full key, the value padded to it."""
    text = model.text
    width = text.int("qk_nope_head_dim") + text.int("qk_rope_head_dim")
    heads = model.num_attention_heads
    layers = decoder(model)
    return [replace(layer, num_kv_heads=heads, head_size=width) for layer in layers]


def divided(model: ModelReader) -> int:
    """Hidden size over heads, whatever ``head_dim`` says."""
    return model.text.int("hidden_size") // model.num_attention_heads


def window(model: ModelReader) -> int | None:
    """The config's window."""
    return model.text.opt_int("sliding_window")


def _none(model: ModelReader, index: int) -> int | None:
    return None


def _by_type(model: ModelReader, index: int) -> int | None:
    """Layers of type ``sliding_attention``."""
    return window(model) if _is_sliding(model, index) else None


def _by_type_plus_one(model: ModelReader, index: int) -> int | None:
    """As given, and the token itself (Cohere 2)."""
    size = _by_type(model, index)
    return None if size is None else size + 1


def _every_other(model: ModelReader, index: int) -> int | None:
    """Even layers, whatever the list of types says (gpt-oss)."""
    return None if index % 2 else window(model)


def _chunked_type(model: ModelReader, index: int) -> int | None:
    """Layers of type ``chunked_attention`` are windows in the cache (Rnj-1)."""
    types = model.layer_types or ()
    return window(model) if types[index : index + 1] == ("chunked_attention",) else None


def _is_sliding(model: ModelReader, index: int) -> bool:
    types = model.layer_types
    if not types:
        return False
    if index >= len(types):
        raise model.text.error("layer_types", f"names {len(types)} layers, layer {index} is none")
    return types[index] == "sliding_attention"


def _chatglm_kv_heads(model: ModelReader) -> int:
    grouped = model.text.bool("multi_query_attention", default=False)
    heads = model.num_attention_heads
    return model.text.int("multi_query_group_num", default=1) if grouped else heads


def _step1_kv_heads(model: ModelReader) -> int:
    return model.text.int("num_attention_groups", "num_key_value_heads", default=1)


KV_HEADS: Mapping[str, Callable[[ModelReader], int]] = {
    "general": lambda model: model.num_kv_heads,
    "query": lambda model: model.num_attention_heads,
    "one": lambda model: 1,
    "chatglm": _chatglm_kv_heads,
    "step1": _step1_kv_heads,
}

WINDOWS: Mapping[str, Windows] = {
    "none": _none,
    "by_type": _by_type,
    "by_type_plus_one": _by_type_plus_one,
    "every_other": _every_other,
    "chunked_type": _chunked_type,
}
