"""Decoders whose layers differ in more than the window's presence: heads, widths, sinks, sharing.

Source: vLLM 0.33 ``model_executor/models/``: the module named like each function, or by it.
"""

from __future__ import annotations

from ...records import replace
from ..description import ModelReader
from ..layers.attention import Attention, DiffKVAttention
from .decoder import attention, by_type, by_type_or_model, windowed, with_own_heads


def granite(model: ModelReader) -> list[Attention]:
    """Granite and Granite MoE: layers have sinks where the config lists layer types."""
    text = model.text
    sinks = text.bool("attention_sinks", default=model.layer_types is not None)
    template = replace(attention(model), has_sink=sinks)
    return windowed(model, by_type_or_model, template)


def laguna(model: ModelReader) -> list[Attention]:
    """Query heads listed per layer; sliding layers may have sinks."""
    heads = model.text.list_of_ints("num_attention_heads_per_layer", default=(), minimum=1)
    sinks = model.text.bool("swa_attention_sink_enabled", default=False)
    return [
        replace(
            layer,
            num_heads=heads[layer.index] if layer.index < len(heads) else layer.num_heads,
            has_sink=sinks and layer.sliding_window is not None,
        )
        for layer in windowed(model, by_type)
    ]


def exaone_moe(model: ModelReader) -> list[Attention]:
    """Sliding layers may have a window each."""
    windows = model.text.list_of_ints("sliding_windows", default=())

    def window(model: ModelReader, index: int) -> int | None:
        if model.type_of(index) == "full_attention":
            return model.model_window
        own = windows[index] if index < len(windows) else model.window
        return own or model.model_window

    return windowed(model, window)


def step3p5(model: ModelReader) -> list[Attention]:
    """Sliding layers may have another number of query heads; the model's window is cleared."""
    text = model.text
    other = text.opt_sub("attention_other_setting")
    sliding_heads = text.opt_int("num_sliding_attention_heads")
    if sliding_heads is None and other is not None:
        sliding_heads = other.opt_int("num_attention_heads")
    template = replace(attention(model), num_kv_heads=text.int("num_attention_groups"))
    return [
        replace(layer, num_heads=sliding_heads)
        if sliding_heads and model.type_of(layer.index) == "sliding_attention"
        else layer
        for layer in windowed(model, by_type, template)
    ]


def mimo_v2(model: ModelReader) -> list[Attention]:
    """Sliding layers have heads, widths and sinks of their own; values are narrower than keys."""
    text = model.text
    full = DiffKVAttention(
        num_heads=model.num_attention_heads,
        num_kv_heads=model.num_kv_heads,
        head_size=text.int("head_dim"),
        head_size_v=text.opt_int("v_head_dim"),
        use_mm_prefix=model.use_mm_prefix,
    )
    sliding = DiffKVAttention(
        num_heads=text.int("swa_num_attention_heads"),
        num_kv_heads=text.int("swa_num_key_value_heads"),
        head_size=text.int("swa_head_dim"),
        head_size_v=text.opt_int("swa_v_head_dim"),
        sliding_window=text.opt_int("sliding_window_size"),
        has_sink=text.bool("add_swa_attention_sink_bias", default=False),
        use_mm_prefix=model.use_mm_prefix,
    )
    pattern = text.list_of_ints("hybrid_layer_pattern")
    if len(pattern) < model.num_hidden_layers:
        raise text.error("hybrid_layer_pattern", f"lists {len(pattern)} layers")
    return [
        replace(sliding if pattern[index] == 1 else full, index=index)
        for index in range(model.num_hidden_layers)
    ]


def plamo3(model: ModelReader) -> list[Attention]:
    """A window, or none, for each layer: listed, or all but every n-th."""
    text = model.text
    windows = text.get("interleaved_sliding_window")
    if windows is None:
        nth = text.int("sliding_window_pattern", default=8)
        count = model.num_hidden_layers
        windows = [model.window if (index + 1) % nth else None for index in range(count)]
    return windowed(model, lambda model, index: _listed(model, windows, index))


def open_pangu(model: ModelReader) -> list[Attention]:
    """openPangu (``openpangu.py``): one window for all layers, or a list that repeats.

    With static sinks (Pro MoE V2) values are narrower than keys and the backend is fixed.
    """
    text = model.text
    template = attention(model)
    if text.int("param_sink_number", default=0, minimum=0):
        template = replace(
            template,
            head_size=text.int("qk_nope_dim") + text.int("qk_rope_dim"),
            head_size_v=text.int("v_channels"),
            fixed="FLASH_ATTN_DIFFKV",
        )
    windows = text.get("interleaved_sliding_window")

    def window(model: ModelReader, index: int) -> int | None:
        if isinstance(windows, list) and windows:
            return _listed(model, windows, index % len(windows)) or model.model_window
        return text.opt_int("interleaved_sliding_window") or model.model_window

    return windowed(model, window, template)


def _listed(model: ModelReader, windows: object, index: int) -> int | None:
    """One layer's entry of a list of windows."""
    if not isinstance(windows, list) or index >= len(windows):
        raise model.text.error("interleaved_sliding_window", "must list a window for every layer")
    own = windows[index]
    if own is not None and (not isinstance(own, int) or isinstance(own, bool) or own < 1):
        raise model.text.error("interleaved_sliding_window", "must hold whole numbers or null")
    return own


def domyn_edge(model: ModelReader) -> list[Attention]:
    """Window and head width listed for each layer; the window does not count the token itself."""
    text = model.text
    windows = text.get("window_sizes")
    if not isinstance(windows, list) or len(windows) < model.num_hidden_layers:
        raise text.error("window_sizes", "must list a window for every layer")
    template = attention(model)
    layers = []
    for index in range(model.num_hidden_layers):
        first = windows[index][0] if isinstance(windows[index], list) and windows[index] else None
        if not isinstance(first, int):
            raise text.error(f"window_sizes[{index}]", "must be a list of whole numbers")
        window = first + 1 if first > 0 else model.model_window
        layer = replace(template, index=index, sliding_window=window)
        layers.append(with_own_heads(model, layer))
    return layers


def llama4(model: ModelReader) -> list[Attention]:
    """Chunked attention in layers with rotary embedding."""
    text = model.text
    template = attention(model)
    chunk = text.opt_int("attention_chunk_size", minimum=0) or None
    rope = text.list_of_ints("no_rope_layers", minimum=0)
    if len(rope) < model.num_hidden_layers:
        raise text.error("no_rope_layers", f"lists {len(rope)} of {model.num_hidden_layers} layers")
    return [
        replace(
            template,
            index=index,
            attention_chunk_size=chunk if rope[index] else None,
            sliding_window=None if rope[index] and chunk else model.model_window,
        )
        for index in range(model.num_hidden_layers)
    ]


def gemma3n(model: ModelReader) -> list[Attention]:
    """The last ``num_kv_shared_layers`` keep no cache: the two layers before them do it for all."""
    first = first_shared(model)
    return [
        replace(layer, kv_sharing=first >= (1 if layer.sliding_window is None else 2))
        if layer.index >= first
        else layer
        for layer in windowed(model, by_type_or_model)
    ]


def gemma4(model: ModelReader) -> list[Attention]:
    """As Gemma 3n; each layer shares with the last of its own type, and has its own heads."""
    first = first_shared(model)
    own_cache = set((model.layer_types or ())[:first])
    for index in range(first, model.num_hidden_layers):
        if model.type_of(index) not in own_cache:
            raise model.text.error(
                "num_kv_shared_layers",
                f"leaves layer {index} no earlier {model.type_of(index)} layer whose cache it can "
                "share",
            )
    return [
        with_own_heads(model, replace(layer, kv_sharing=layer.index >= first))
        for layer in windowed(model, by_type_or_model)
    ]


def first_shared(model: ModelReader) -> int:
    """The first layer that reads another's cache."""
    layers = model.num_hidden_layers
    return layers - model.text.int("num_kv_shared_layers", default=0, minimum=0, maximum=layers)


def dory(model: ModelReader) -> list[Attention]:
    """Attention or MLP in turn; the recurrent layers in the middle keep a cache per loop."""
    text = model.text
    first = text.int("n_input_layers", default=0, minimum=0)
    output = text.int("n_output_layers", default=0, minimum=0)
    count = text.int("n_recurrent_layers", default=model.num_hidden_layers - first - output)
    loops = text.int("n_recurrent_loops", default=1)
    if text.str("recurrent_kv_cache_mode", default="per_loop") != "per_loop":
        loops = 1
    return [
        layer
        for layer in windowed(model, by_type)
        if model.type_of(layer.index) != "mlp"
        for _ in range(loops if first <= layer.index < first + count else 1)
    ]


def iquest_loop_coder(model: ModelReader) -> list[Attention]:
    """Every layer runs ``loop_num`` times; all but the first time within a small window."""
    loops = model.text.int("loop_num", default=2)
    again = model.text.int("loop_window_size", default=64)
    return [
        layer
        for once in windowed(model, lambda model, index: model.model_window)
        for layer in (once, *[replace(once, sliding_window=again)] * (loops - 1))
    ]


def hrm_text(model: ModelReader) -> list[Attention]:
    """Two stacks of layers, low and high: the low one runs ``L_cycles`` times per high cycle."""
    text = model.text
    high = text.int("H_cycles", default=2)
    low = text.int("L_cycles", default=3)
    stack = text.int("num_layers_per_stack")
    heads = model.num_attention_heads
    template = replace(attention(model), num_kv_heads=heads, sliding_window=model.model_window)
    times = [high * low] * stack + [high] * stack
    return [
        replace(template, index=index % stack)
        for index, count in enumerate(times)
        for _ in range(count)
    ]
