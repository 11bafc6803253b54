"""What transformers' config classes work out of other values, one function per way.

``config_classes.json`` names these by ``model_type``; each changes the values in place. Lists of
layer types are in ``layer_type_lists.py``.

Source: transformers 5.20 ``models/*/configuration_*.py``, ``__post_init__``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..config import Config
from . import layer_type_lists as lists
from .layer_type_lists import FULL, Values, absent


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


DERIVATIONS: Mapping[str, Callable[..., None]] = {
    step.__name__: step
    for step in (
        lists.all_full,
        lists.all_one_type,
        both_ways_window,
        lists.chunk_where_rope,
        counted_blocks,
        lists.cut_types,
        lists.dense_prefix_types,
        divided_head_dim,
        doubled_head_dim,
        lists.dory_types,
        lists.from_max_window_layers,
        lists.full_every,
        lists.full_every_and_first,
        lists.full_every_and_last,
        lists.full_every_from_end,
        lists.full_every_if_windowed,
        lists.full_first_of,
        full_layers_apart,
        halved_local_window,
        heads_per_expert,
        lists.last_is_full,
        lists.listed_windows,
        multi_query,
        no_window,
        rope_head_dim,
        stacked_layers,
        lists.switched_alternate,
        lists.switched_window,
        lists.switched_window_only,
        window_plus_one,
        lists.window_without_rope,
    )
}
