"""Configs that vary what vLLM reads: the base, and random variants of it that still make sense."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

IGNORED = re.compile(
    r"""(.*\.)?(.*_token_ids?|.*_token_index|.*dropout.*|.*_eps|.*epsilon|.*initializer.*
    |architectures|model_type|transformers_version|torch_dtype|dtype|.*attn_implementation.*
    |rope_.*|partial_rotary_factor|rotary_.*|original_max_position_embeddings|quantization_config
    |head_dtype|compression_config|approximate_experts|canvas_length|clip_qkv|.*multiplier|auto_map
    |.*logit_scale.*|.*softcap.*|.*scaling(_factor)?|.*_scale|problem_type|id2label|label2id
    |.*layerdrop|gradient_checkpointing|position_embedding_type|sbert_ce_.*|sentence_transformers
    |decoder|generator|text_encoder|text_config|default_rope_type|nested_rope_parameter_keys
    |standardize_rope_params|is_heterogeneous|dict_dtype_to_str|rswa_window|is_mm_prefix_lm
    |dual_chunk_attention_config|n_predict|num_nextn_predict_layers|mtp_num_hidden_layers|use_cache|sliding_window|max_window_layers|use_sliding_window|_name_or_path|name_or_path
    |to_dict|get_text_config|to_diff_dict|attribute_map|update|is_encoder_decoder|is_causal|.*pdrop
    |sub_configs|is_composition|return_dict|output_.*|pad_token|torchscript|.*_prob|layernorm_.*
    |rope|scale_.*|.*topk_group|n_group|.*top_k|.*topk.*|scoring_func|norm_topk_prob|num_experts_per_tok
    |get|keys|items|.*loss.*|.*_coef|attn_window_size|.*_method|vocab_size_.*
    |use_mm_prefix.*|rms_norm|base_model.*|pruned_heads|chunk_size_feed_forward|max_model_len
    |attention_chunk_size|.*temperature.*|.*_tuning|time_step_.*|.*_lambda|.*threshold)""",
    re.VERBOSE,
)
"""Keys that no width depends on."""

DEPTH = re.compile(r"(.*\.)?(num_(hidden_)?layers|n_layers?|depth|(en|de)coder_layers|num_blocks)")
ACTIVATION = re.compile(
    r"(.*\.)?(.*hidden_act|.*activation(_function|_type)?|act_fn|hidden_activation)"
)
FLAG = re.compile(r"(.*\.)?(.*bias|use_.*|.*qk_?norm.*|tie_word_embeddings|.*_norm|has_.*|.*gate)")
UNSTATED = re.compile(r"head_dim|num_labels")
"""Numbers that a config may leave out and a class looks for all the same."""
FACTORS = ((1, 2), (3, 2), (2, 1), (3, 1), (5, 4), (3, 4))


def get(config: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    value: Any = config
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def put(config: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path."""
    *outer, last = path.split(".")
    for key in outer:
        inside = config.setdefault(key, {})
        if not isinstance(inside, dict):
            return
        config = inside
    config[last] = value


def paths(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every path to a value that is no object."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from paths(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def shallow(config: Mapping[str, Any], layers: int = 4) -> dict[str, Any]:
    """The config with few layers, and lists by layer cut to match."""
    small: dict[str, Any] = copy.deepcopy(dict(config))
    for path in list(paths(small)):
        if DEPTH.fullmatch(path) and isinstance(get(small, path), int):
            resize(small, path, layers)
    return small


def resize(config: dict[str, Any], path: str, layers: int) -> None:
    """Another number of layers; lists beside it with an item a layer follow."""
    before, stem = get(config, path), path.rpartition(".")[0]
    holder = get(config, stem) if stem else config
    put(config, path, layers)
    for key, value in list((holder or {}).items()):
        if isinstance(value, list) and len(value) == before and before > 2:
            holder[key] = [value[i % before] for i in range(layers)]


def variant(
    config: Mapping[str, Any], keys: list[str], random: Random, share: float
) -> dict[str, Any]:
    """The config with some of ``keys`` changed."""
    made: dict[str, Any] = copy.deepcopy(dict(config))
    for path in keys:
        if random.random() < share:
            change(made, path, random)
    return made


def change(config: dict[str, Any], path: str, random: Random) -> None:
    """Another value of one key, by its type and name."""
    value = get(config, path)
    if isinstance(value, bool):
        put(config, path, not value)
    elif value is None:
        if FLAG.fullmatch(path):
            put(config, path, True)
        elif UNSTATED.fullmatch(path):
            put(config, path, random.choice((64, 128)) if "head" in path else 3)
    elif isinstance(value, int):
        if DEPTH.fullmatch(path):
            resize(config, path, random.choice((2, 3, 5, 6)))
        else:
            put(config, path, other(path, value, random))
    elif isinstance(value, float):
        put(config, path, value * random.choice((0.5, 2.0)))
    elif isinstance(value, str) and ACTIVATION.fullmatch(path):
        put(config, path, random.choice(("gelu", "silu", "relu", "gelu_pytorch_tanh")))
    elif (
        isinstance(value, list)
        and len(value) > 2
        and all(isinstance(v, (str, bool)) for v in value)
    ):
        shuffled = list(value)
        random.shuffle(shuffled)
        put(config, path, shuffled)
    elif isinstance(value, list) and value and all(type(v) is int for v in value):
        put(config, path, [v * random.choice((1, 2)) for v in value])


def other(path: str, value: int, random: Random) -> int:
    """A whole number like ``value``: of the same divisors where it is large."""
    if "vocab" in path:
        return random.randrange(20_000, 60_000)
    if value < 0:
        return random.choice((-1, -2, -3))
    if value < 12:
        return random.choice((value, value + 1, 2 * value, max(1, value // 2)))
    if value >= 512 and "head" not in path and random.random() < 0.5:
        return value + 64 * random.choice((-3, -1, 1, 2, 5))
    top, bottom = random.choice(FACTORS)
    return value * top // bottom if value * top % (2 * bottom) == 0 else 2 * value


def unread(config: Mapping[str, Any], read: list[str]) -> list[str]:
    """Paths of numbers and switches that are not among those ``read``."""
    return [
        path
        for path in paths(config)
        if path not in read and not IGNORED.fullmatch(path) and isinstance(get(config, path), int)
    ]
