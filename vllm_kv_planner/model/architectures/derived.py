"""Values that a config class works out of others, lists of layer types among them.

Each function is one class's way (``derive`` of ``config_classes.json`` says whose) and changes the
values in place; a list in the file wins.

Source: transformers 5.20 ``models/*/configuration_*.py``, ``__post_init__``.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from ..config import Config

Values = MutableMapping[str, Any]

FULL = "full_attention"
SLIDING = "sliding_attention"


def layers(config: Config) -> range:
    """Indices of the decoder layers."""
    return range(config.int("num_hidden_layers", minimum=0))


def absent(values: Values, key: str) -> bool:
    """Whether a value is null or not there."""
    return values.get(key) is None


def set_types(values: Values, is_full: Iterable[object]) -> None:
    """The list by what is full and what slides, unless there is one."""
    if absent(values, "layer_types"):
        values["layer_types"] = [FULL if full else SLIDING for full in is_full]


def full_every(config: Config, values: Values, interval: int, key: str = "") -> None:
    """Every n-th layer is full, counted from one; n may be the config's own.

    Not read beside a list: EXAONE 4.0 writes ``LLLG`` for it there.
    """
    if not absent(values, "layer_types"):
        return
    if key and config.data.get(key, interval) is None:
        raise config.refused(key, None, "must be a whole number")
    nth = config.int(key, default=interval) if key else interval
    set_types(values, ((index + 1) % nth == 0 for index in layers(config)))


def full_every_and_last(config: Config, values: Values, interval: int) -> None:
    """Every n-th layer is full, and the last."""
    every = layers(config)
    set_types(values, ((index + 1) % interval == 0 or index == every[-1] for index in every))


def full_every_and_first(config: Config, values: Values, interval: int) -> None:
    """Every n-th layer is full, and the first."""
    set_types(values, (index == 0 or (index + 1) % interval == 0 for index in layers(config)))


def full_every_if_windowed(config: Config, values: Values, key: str) -> None:
    """Every n-th layer is full where there is a window; the class gives no list without one."""
    if not absent(values, "sliding_window"):
        full_every(config, values, 4, key)


def full_first_of(config: Config, values: Values, interval: int, key: str = "") -> None:
    """The first of every n layers is full; n may be the config's own."""
    nth = config.int(key, default=interval) if key else interval
    set_types(values, (index % nth == 0 for index in layers(config)))


def full_every_from_end(config: Config, values: Values, interval: int) -> None:
    """Every n-th layer is full, counted from the last."""
    every = layers(config)
    set_types(values, ((every[-1] - index) % interval == 0 for index in every))


def last_is_full(config: Config, values: Values) -> None:
    """The last layer is full whatever the list says."""
    types = values.get("layer_types")
    if isinstance(types, list) and types:
        values["layer_types"] = [*types[:-1], FULL]


def all_full(config: Config, values: Values) -> None:
    """Full layers only, unless the file lists others."""
    set_types(values, (True for _ in layers(config)))


def all_one_type(config: Config, values: Values) -> None:
    """All layers slide where there is a window, none otherwise."""
    full = absent(values, "sliding_window")
    set_types(values, (full for _ in layers(config)))


def from_max_window_layers(config: Config, values: Values) -> None:
    """Layers from ``max_window_layers`` on slide, where there is a window."""
    first = config.int("max_window_layers", default=28, minimum=0)
    full = absent(values, "sliding_window")
    set_types(values, (full or index < first for index in layers(config)))


def switched_window(config: Config, values: Values) -> None:
    """No window unless ``use_sliding_window``; then from ``max_window_layers`` on."""
    switched_window_only(config, values)
    from_max_window_layers(config, values)


def switched_window_only(config: Config, values: Values) -> None:
    """No window unless ``use_sliding_window``; no list of types."""
    if not config.bool("use_sliding_window", default=False):
        values["sliding_window"] = None


def switched_alternate(config: Config, values: Values) -> None:
    """Every other layer below ``max_window_layers`` slides, where ``use_sliding_window``."""
    switched = config.bool("use_sliding_window", default=False)
    end = config.int("max_window_layers", default=28, minimum=0) if switched else 0
    if not switched:
        values["sliding_window"] = None
    set_types(values, (index % 2 or index >= end for index in layers(config)))


def window_without_rope(config: Config, values: Values) -> None:
    """Layers without rotary embedding slide, where ``use_sliding_window``."""
    every = layers(config)
    interval = config.int("no_rope_layer_interval", default=4)
    default = [int((index + 1) % interval != 0) for index in every]
    rope = config.list_of_ints("no_rope_layers", default=default, length=len(every))
    full = absent(values, "sliding_window") or not config.bool("use_sliding_window", default=False)
    set_types(values, (full or rope[index] for index in every))


def chunk_where_rope(config: Config, values: Values) -> None:
    """Layers with rotary embedding attend in chunks (Llama 4)."""
    every = layers(config)
    interval = config.int("no_rope_layer_interval", default=4)
    rope = config.list_of_ints("no_rope_layers", default=())
    values["no_rope_layers"] = rope = rope or [int((index + 1) % interval != 0) for index in every]
    if absent(values, "layer_types"):
        values["layer_types"] = ["chunked_attention" if one else FULL for one in rope]


def dense_prefix_types(config: Config, values: Values) -> None:
    """The dense layers at the start have a pattern of their own (Cohere 2 MoE)."""
    dense = config.int("first_k_dense_replace", default=0, minimum=0)
    first = config.int("prefix_dense_sliding_window_pattern", default=1)
    rest = config.int("sliding_window_pattern", default=4)
    count = len(layers(config))
    full = [(index + 1) % first == 0 for index in range(dense)]
    full += [(index + 1) % rest == 0 for index in range(count - dense)]
    set_types(values, full)


def listed_windows(config: Config, values: Values) -> None:
    """Windows may be listed per layer; else every third layer is full (UltraBERT)."""
    windows = config.list_of_ints("attention_windows", default=())
    if windows:
        values["sliding_window"] = next(filter(None, windows), values.get("sliding_window"))
        set_types(values, (not window for window in windows))
    full_every(config, values, 3)


def dory_types(config: Config, values: Values) -> None:
    """Every other layer is an MLP; of the rest every fourth is full (Dory)."""
    if absent(values, "layer_types"):
        types = [SLIDING, "mlp", SLIDING, "mlp", SLIDING, "mlp", FULL, "mlp"]
        values["layer_types"] = [types[index % 8] for index in layers(config)]


def cut_types(config: Config, values: Values) -> None:
    """The list may run on over draft layers, which are not the model's."""
    types = values.get("layer_types")
    if isinstance(types, list):
        values["layer_types"] = types[: len(layers(config))]


def stacked_layers(config: Config, values: Values) -> None:
    """``num_hidden_layers`` becomes what two stacks run in all cycles together (HRM)."""
    if absent(values, "num_layers_per_stack"):
        stack = config.int("num_hidden_layers")
        cycles = config.int("H_cycles", default=2) * (config.int("L_cycles", default=3) + 1)
        values["num_layers_per_stack"] = stack
        values["num_hidden_layers"] = stack * cycles


def no_window(config: Config, values: Values) -> None:
    """The class drops the window."""
    values["sliding_window"] = None


def window_plus_one(config: Config, values: Values) -> None:
    """``sliding_window_size`` does not count the token itself."""
    size = config.opt_int("sliding_window_size")
    if size is not None:
        values["sliding_window"] = size + 1


def both_ways_window(config: Config, values: Values, value: object) -> None:
    """A window to both sides keeps half of it, and itself (bidirectional Gemma)."""
    flag = values.get("use_bidirectional_attention")
    if (flag == value) if isinstance(value, str) else flag:
        window = config.opt_int("sliding_window")
        values["sliding_window"] = None if window is None else window // 2 + 1
        if isinstance(value, str):
            values["is_causal"] = False


def full_layers_apart(config: Config, values: Values, width: int, kv_heads: int | None) -> None:
    """Full layers have heads of their own, as ``per_layer_config`` (Gemma 4)."""
    if "per_layer_config" in values:
        return
    own = {"head_dim": config.int("global_head_dim", default=width)}
    heads = config.opt_int("num_global_key_value_heads") or kv_heads
    if heads is not None and config.bool("attention_k_eq_v", default=True):
        own["num_key_value_heads"] = heads
    types = values.get("layer_types")
    kinds = types if isinstance(types, list) else []
    values["per_layer_config"] = {
        str(index): own for index, kind in enumerate(kinds) if kind == FULL
    }


def counted_blocks(config: Config, values: Values) -> None:
    """As many layers as blocks are listed, or letters in the pattern (Nemotron-H)."""
    blocks = config.get("layers_block_type", "hybrid_override_pattern")
    if isinstance(blocks, list | str):
        values["num_hidden_layers"] = len(blocks)


def halved_local_window(config: Config, values: Values) -> None:
    """``local_attention`` counts both sides (ModernBERT as a decoder)."""
    values["sliding_window"] = config.int("local_attention", default=128) // 2


def heads_per_expert(config: Config, values: Values) -> None:
    """Query heads are KV heads times the experts a token sees (JetMoe)."""
    experts = config.int("num_experts_per_tok")
    values["num_attention_heads"] = config.int("num_key_value_heads") * experts


def divided_head_dim(config: Config, values: Values) -> None:
    """``head_dim`` is the hidden size over the heads, whatever the file says."""
    values["head_dim"] = config.int("hidden_size") // config.int("num_attention_heads")


def rope_head_dim(config: Config, values: Values) -> None:
    """``head_dim`` is the rotary width, whatever the file says (Ling hybrids)."""
    values["head_dim"] = config.int("qk_rope_head_dim", default=64)


def doubled_head_dim(config: Config, values: Values) -> None:
    """Attention sees the hidden state beside the embedding (Zamba 2)."""
    if absent(values, "attention_head_dim"):
        width = 2 * config.int("hidden_size", default=2560)
        values["attention_head_dim"] = width // config.int("num_attention_heads", default=32)
    if config.bool("use_long_context", default=False):
        values["max_position_embeddings"] = 16384


def multi_query(config: Config, values: Values) -> None:
    """One KV head, or as many as query heads."""
    one = config.bool("multi_query", default=True)
    values["num_key_value_heads"] = 1 if one else config.int("num_attention_heads")
