"""Models that run the same layers several times, with a cache for each time.

Source: vLLM 0.33 ``model_executor/models/dory.py``, ``hrm_text.py``, ``iquest_loopcoder.py``.
"""

from __future__ import annotations

from ...records import replace
from ..layers.attention import Attention
from .decoder import attention, by_type
from .reader import ModelReader


def dory(model: ModelReader) -> list[Attention]:
    """Attention or MLP in turn; the recurrent layers in the middle keep a cache per loop."""
    text = model.text
    first = text.int("n_input_layers", default=0, minimum=0)
    output = text.int("n_output_layers", default=0, minimum=0)
    count = text.int("n_recurrent_layers", default=model.num_hidden_layers - first - output)
    loops = text.int("n_recurrent_loops", default=1)
    if text.str("recurrent_kv_cache_mode", default="per_loop") != "per_loop":
        loops = 1
    template = attention(model)
    layers = []
    for index in range(model.num_hidden_layers):
        if model.type_of(index) == "mlp":
            continue
        layer = replace(template, index=index, sliding_window=by_type(model, index))
        times = loops if first <= index < first + count else 1
        layers.extend([layer] * times)
    return layers


def iquest_loop_coder(model: ModelReader) -> list[Attention]:
    """Every layer runs ``loop_num`` times; all but the first time within a small window."""
    loops = model.text.int("loop_num", default=2)
    again = model.text.int("loop_window_size", default=64)
    template = attention(model)
    layers = []
    for index in range(model.num_hidden_layers):
        layers.append(replace(template, index=index, sliding_window=model.model_window))
        layers.extend([replace(template, index=index, sliding_window=again)] * (loops - 1))
    return layers


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
