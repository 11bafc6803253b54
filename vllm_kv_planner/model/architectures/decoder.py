"""Decoders whose layers differ in nothing but their window, encoders, and encoder-decoders.

Source: vLLM 0.33 ``model_executor/models/llama.py`` and the many classes like it;
``layers/attention/attention.py`` ``Attention.__init__`` for the model's window; the modules
that functions name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...records import replace
from ..description import ModelReader
from ..layers.attention import Attention
from .general import convertor, of_layer

Window = Callable[[ModelReader, int], int | None]
"""A layer's window in tokens; None for all."""


def decoder(model: ModelReader) -> list[Attention]:
    """One attention layer per decoder layer.

    Options: ``windows``: how a layer finds its own window (``WINDOWS``). ``no_model_window``: the
    class clears the model's window. ``one_window``: the class refuses windows in some layers only.
    And those of ``attention``.
    """
    if model.options.get("one_window") and len(set(model.layer_types or ())) > 1:
        end = model.text.int("max_window_layers", default=0, minimum=0)
        if end != model.num_hidden_layers:
            raise model.text.error("layer_types", "mixes windows and none, which vLLM refuses here")
    return windowed(model, own_or_model_window)


def windowed(
    model: ModelReader, window: Window, template: Attention | None = None
) -> list[Attention]:
    """A layer like ``template`` (by default ``attention``) per decoder layer, in its own window."""
    template = attention(model) if template is None else template
    return [
        replace(template, index=index, sliding_window=window(model, index))
        for index in range(model.num_hidden_layers)
    ]


def attention(model: ModelReader) -> Attention:
    """A layer with the config's heads, as the row's options shape it.

    Options: ``head_size``: ``divided`` where the class ignores ``head_dim``. ``kv_heads``: how the
    class counts them, if not as vLLM does in general (``KV_HEADS``). ``both_ways``: the class heeds
    ``is_causal``. ``sinks``: learned sinks in every layer. ``no_cache_config``: the class passes
    its layers no cache config.
    """
    options = model.options
    if not model.num_attention_heads:
        raise model.text.error("num_attention_heads", "is not given")
    both_ways = bool(options.get("both_ways")) and not model.is_causal
    return Attention(
        num_heads=model.num_attention_heads,
        num_kv_heads=KV_HEADS[options.get("kv_heads", "general")](model),
        head_size=divided(model) if options.get("head_size") == "divided" else model.head_size,
        attn_type="encoder_only" if both_ways else "decoder",
        has_sink=bool(options.get("sinks")),
        no_cache_config=bool(options.get("no_cache_config")),
        use_mm_prefix=model.use_mm_prefix,
    )


def with_own_heads(model: ModelReader, layer: Attention) -> Attention:
    """The layer with what ``per_layer_config`` says of its heads, where there is one."""
    overrides = model.text.opt_sub("per_layer_config")
    if overrides is None:
        return layer
    text = of_layer(model.text, overrides.opt_sub(str(layer.index)))
    facts = convertor(model.top.str("model_type", default=""))
    return replace(
        layer,
        num_heads=facts.num_attention_heads(text),
        num_kv_heads=facts.num_kv_heads(text),
        head_size=facts.head_size(text),
    )


def minicpm3(model: ModelReader) -> list[Attention]:
    """Latent in its weights only: the cache holds every head's full key, the value padded to it."""
    text = model.text
    width = text.int("qk_nope_head_dim") + text.int("qk_rope_head_dim")
    heads = model.num_attention_heads
    return [replace(layer, num_kv_heads=heads, head_size=width) for layer in decoder(model)]


def divided(model: ModelReader) -> int:
    """Hidden size over heads, whatever ``head_dim`` says."""
    return model.text.int("hidden_size") // model.num_attention_heads


def own_or_model_window(model: ModelReader, index: int, way: str = "none") -> int | None:
    """A layer's own window by the row's ``windows`` (by default this way), else the model's."""
    own = WINDOWS[model.options.get("windows", way)](model, index)
    if own is not None or "no_model_window" in model.options or "no_cache_config" in model.options:
        return own
    return model.model_window


def by_type_or_model(model: ModelReader, index: int) -> int | None:
    """Layers of type ``sliding_attention``, unless the row says otherwise; else the model's."""
    return own_or_model_window(model, index, "by_type")


def _none(model: ModelReader, index: int) -> int | None:
    """The class gives its layers no window of their own."""
    return None


def by_type(model: ModelReader, index: int) -> int | None:
    """Layers of type ``sliding_attention``."""
    return model.window if model.type_of(index) == "sliding_attention" else None


def _by_type_plus_one(model: ModelReader, index: int) -> int | None:
    """As given, and the token itself (Cohere 2)."""
    own = by_type(model, index)
    return None if own is None else own + 1


def _every_other(model: ModelReader, index: int) -> int | None:
    """Even layers, whatever the list of types says (gpt-oss)."""
    return None if index % 2 else model.window


def _chunked_type(model: ModelReader, index: int) -> int | None:
    """Layers of type ``chunked_attention``: windows, as far as the cache goes (Rnj-1)."""
    return model.window if model.type_of(index) == "chunked_attention" else None


WINDOWS: Mapping[str, Window] = {
    "none": _none,
    "by_type": by_type,
    "by_type_plus_one": _by_type_plus_one,
    "every_other": _every_other,
    "chunked_type": _chunked_type,
}


def _chatglm_kv_heads(model: ModelReader) -> int:
    grouped = model.text.bool("multi_query_attention", default=False)
    heads = model.num_attention_heads
    return model.text.int("multi_query_group_num", default=1) if grouped else heads


def _step1_kv_heads(model: ModelReader) -> int:
    return model.text.int("num_attention_groups", "num_key_value_heads", default=1)


def _mpt_kv_heads(model: ModelReader) -> int:
    nested = model.text.opt_sub("attn_config")
    heads = model.num_attention_heads
    return heads if nested is None else nested.int("kv_n_heads", default=heads)


KV_HEADS: Mapping[str, Callable[[ModelReader], int]] = {
    "general": lambda model: model.num_kv_heads,
    "query": lambda model: model.num_attention_heads,
    "one": lambda model: 1,
    "chatglm": _chatglm_kv_heads,
    "step1": _step1_kv_heads,
    "attn_config": _mpt_kv_heads,
}


def transformers(model: ModelReader) -> list[Attention]:
    """transformers' own model: attention in every layer, with its own facts; window by type.

    Source: vLLM 0.33 ``model_executor/models/transformers/base.py``
    ``_create_attention_instances``.
    """
    return [with_own_heads(model, layer) for layer in windowed(model, by_type_or_model)]


def nemotron_nas(model: ModelReader) -> list[Attention]:
    """Attention where ``block_configs`` keeps it, with the KV heads it says."""
    blocks = model.text.list_of_subs("block_configs", length=model.num_hidden_layers)
    attending = [block.sub("attention") for block in blocks]
    return [
        replace(layer, num_kv_heads=layer.num_heads // own.int("n_heads_in_group"))
        for layer, own in zip(windowed(model, by_type_or_model), attending, strict=True)
        if not own.bool("no_op", default=False)
    ]


def encoder(model: ModelReader) -> list[Attention]:
    """Encoder-only attention in every layer: a backend is chosen, no cache is kept."""
    template = replace(attention(model), attn_type="encoder_only", use_mm_prefix=False)
    return [replace(template, index=index) for index in range(model.num_hidden_layers)]


def nothing(model: ModelReader) -> list[Attention]:
    """No layer that vLLM knows of (Terratorch runs its own)."""
    return []


def encoder_decoder(model: ModelReader) -> list[Attention]:
    """Self-attention, then cross-attention, in every decoder layer.

    Options: ``decoder``: where the decoder's config is, as keys from the whole; the whole itself by
    default. ``prefix_only``: no cross-attention, the encoder's output is a prefix of the prompt.
    """
    config = model.top if "decoder" in model.options else model.text
    for key in model.options.get("decoder", ()):
        config = config.sub(key)
    heads = config.int("decoder_attention_heads", "num_attention_heads")
    own = Attention(
        num_heads=heads,
        num_kv_heads=heads,
        head_size=config.int("d_model", "hidden_size") // heads,
        use_mm_prefix=model.use_mm_prefix,
    )
    across = replace(own, attn_type="encoder_decoder", use_mm_prefix=False)
    kinds = (own,) if model.options.get("prefix_only") else (own, across)
    count = config.int("decoder_layers", "num_layers")
    return [replace(kind, index=index) for index in range(count) for kind in kinds]


def mllama(model: ModelReader) -> list[Attention]:
    """Llama 3.2 Vision: the listed layers look at the image, the others at the text.

    Source: vLLM 0.10.2 ``mllama.py``.
    """
    across = set(model.text.list_of_ints("cross_attention_layers", default=()))
    template = attention(model)
    return [
        replace(
            template, index=index, attn_type="encoder_decoder" if index in across else "decoder"
        )
        for index in range(model.num_hidden_layers)
    ]
