"""Configs whose values have the right type and contradict each other, for ``fuzz_configs.py``.

``CHANGES`` says for each key what to put in its place: values, or functions of the old value; keys
that it does not name get what ``anything`` says for their type. They are tried on every
architecture that is bundled, wherever its config has the key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

Json = dict[str, Any]

LAYERS = 8
"""Layers of the cut configs."""


def more(value: int) -> int:
    """One more than before."""
    return value + 1


def double(value: Any) -> Any:
    """Twice as much, or as long."""
    return value * 2


def shorter(value: Any) -> Any:
    """One item fewer."""
    return value[:-1]


def longer(value: Any) -> Any:
    """One item more."""
    return value + value[-1:]


def unknown_first(value: list[str]) -> list[str]:
    """The first word is one nobody knows."""
    return ["unknown_kind", *value[1:]]


def odd(value: int) -> int:
    """The odd number below."""
    return value - 1 if value % 2 == 0 else value - 2


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}
LLAMA3 = {
    **{"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192},
    **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
}
LONGROPE = {
    **{"rope_type": "longrope", "original_max_position_embeddings": 4096},
    **{"short_factor": [1.0] * 64, "long_factor": [1.0] * 64},
}


def without(values: Json, key: str) -> Json:
    """All but one."""
    return {name: value for name, value in values.items() if name != key}


ROPES: tuple[Any, ...] = (
    YARN,
    LLAMA3,
    {"rope_type": "unknown_kind", "factor": 2.0},
    {"rope_type": "linear"},
    {"type": "linear", "factor": 2.0},
    {"rope_type": "dynamic"},
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "default", "factor": 2.0},
    {"factor": 2.0},
    *(without(YARN, key) for key in ("factor", "original_max_position_embeddings")),
    *(without(LLAMA3, key) for key in LLAMA3 if key != "rope_type"),
    {**YARN, "factor": 0.5},
    {**YARN, "type": "yarn", "rope_type": "linear"},
    LONGROPE,
    {**LONGROPE, "short_factor": [1.0] * 5},
    {**LONGROPE, "long_factor": [1.0] * 5},
    without(LONGROPE, "short_factor"),
    without(LONGROPE, "original_max_position_embeddings"),
    {"rope_type": "mrope", "mrope_section": [1, 2, 3]},
    {"rope_type": "default", "mrope_section": [16, 24, 25]},
    {"rope_type": "default", "mrope_section": [16, 24]},
)

CHANGES: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("num_attention_heads", "n_head"), (more, 7, double)),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model"), (more, odd, 100)),
    "num_key_value_heads": (3, 5, double, 64),
    "head_dim": (odd, 48, 1, None, 72),
    "layer_types": (shorter, longer, unknown_first, []),
    "layers_block_type": (shorter, longer, unknown_first),
    "hybrid_override_pattern": (shorter, longer, double),
    "hybrid_layer_pattern": (shorter, longer),
    "num_hidden_layers": (more, 1),
    **dict.fromkeys(("intermediate_size", "qk_nope_head_dim", "global_head_dim"), (odd, 100, 0)),
    "vocab_size": (1, odd),
    "hidden_act": ("unknown_kind", "relu"),
    **dict.fromkeys(("max_position_embeddings", "linear_conv_kernel_dim"), (1, 0)),
    "sliding_window": (0, -1, 1),
    "max_window_layers": (double, 0),
    "attention_chunk_size": (0, 1),
    **dict.fromkeys(("tie_word_embeddings", "norm_topk_prob"), (None,)),
    "partial_rotary_factor": (0.33, 0.0, 1.0, 0.01),
    **dict.fromkeys(("rope_scaling", "rope_parameters"), ROPES),
    **dict.fromkeys(("torch_dtype", "dtype"), ("bf16", "torch.float16", "float64", "BFloat16")),
    "kv_lora_rank": (100, 256, None, 500),
    "q_lora_rank": (None, 0),
    "qk_rope_head_dim": (odd, 0, 32, 128),
    "v_head_dim": (odd, 100, 0, 256),
    "index_topk": (1000, 0, 64, 4096),
    "index_head_dim": (100, 64),
    "index_n_heads": (0, 7),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts"), (0, 1, 7, None)),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "top_k_experts"), (0, 1000, None)),
    "moe_intermediate_size": (0, odd, 100, None),
    "n_shared_experts": (0, None),
    "shared_expert_intermediate_size": (0, odd),
    "n_group": (7, 0, None),
    **dict.fromkeys(("topk_group", "first_k_dense_replace"), (1000, 0, None)),
    "topk_method": ("unknown_kind", "greedy"),
    "scoring_func": ("unknown_kind", "softmax"),
    **dict.fromkeys(("moe_layer_freq", "decoder_sparse_step"), (0, 2)),
    "mlp_only_layers": ([1000],),
    **dict.fromkeys(("attn_layer_period", "expert_layer_period", "encoder_layers"), (0, 1)),
    **dict.fromkeys(("num_mel_bins", "max_target_positions", "depth"), (0, 1)),
    "attn_layer_offset": (1000, double),
    "expert_layer_offset": (1000,),
    **dict.fromkeys(("mamba_expand", "mamba_d_conv", "conv_kernel", "mamba_d_state"), (0, 1, 7)),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), (more, 7)),
    **dict.fromkeys(("mamba_n_groups", "n_groups", "mamba_ngroups"), (3, 7, 0)),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "ssm_state_size"), (more, 1)),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), (more, 3, 0)),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), (more, 48, 0)),
    **dict.fromkeys(("full_attention_interval", "spatial_merge_size"), (0, 3)),
    "num_kv_shared_layers": (4, LAYERS, LAYERS + 1),
    "num_global_key_value_heads": (3, double),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), (more, 5)),
    "decoder_layers": (more, 0),
    **dict.fromkeys(("max_source_positions", "vocab_size_per_layer_input"), (1,)),
    "compress_ratios": (shorter, longer, double, []),
    "o_lora_rank": (100, 0),
    "o_groups": (3, 0),
    "no_rope_layers": (shorter, []),
    **dict.fromkeys(("hidden_size_per_layer_input", "no_rope_layer_interval"), (0,)),
    "block_configs": (shorter, longer, None),
    "num_attention_groups": (3, 5),
    "multi_query_group_num": (3,),
    "weight_block_size": ([128], [0, 128], [128, 0], [64, 64], [100, 128], None, [128, 128, 128]),
    "group_size": (48, 0, 64, -1, 256),
    "bits": (3, 5, 8, 16),
    "fmt": ("e5m2", "unknown_kind"),
    "quant_method": ("unknown_kind", ""),
    "activation_scheme": ("unknown_kind", "static", None),
    "num_bits": (3, 16),
    "strategy": ("unknown_kind", "group"),
    "format": ("unknown_kind",),
    "config_groups": ({},),
    "quant_algo": ("unknown_kind", None),
    "desc_act": (True,),
    **dict.fromkeys(("sym", "zero_point"), (False,)),
    "patch_size": (15, 0),
    "image_size": (100, 1),
    "num_heads": (more, 7),
    "out_hidden_size": (100,),
}


UNREAD = frozenset(
    [
        *("architectures", "model_type", "transformers_version", "_name_or_path", "auto_map"),
        *("id2label", "label2id", "use_cache", "torchscript", "return_dict", "language_model"),
    ]
)
"""Names and notes, no values of a model."""


def anything(key: str, value: Any) -> tuple[Any, ...]:
    """What to put in place of a value that ``CHANGES`` has nothing for."""
    if key in UNREAD or "token" in key or "dropout" in key or isinstance(value, dict):
        return ()
    if isinstance(value, bool):
        return (None,)
    if isinstance(value, int):
        return (0, -1, odd, 1_000_003, None)
    if isinstance(value, str):
        return ("unknown_kind", None)
    if isinstance(value, list) and value:
        return (shorter, longer, [], None)
    return (None, 0) if isinstance(value, float) else ()


REFUSED_BY_US: Mapping[str, str] = {
    "no layers": r"layers? must be a whole number from 1 to .*, is 0$",
    "a negative number": r" must be (a (whole )?number )?from [01][ ,].*, is -[\d,.]+$",
    "nothing in a patch": r"_(size|patch_size) must be a whole number from 1 to .*, is 0$",
    "a RoPE factor of 0": r"factor must be above 0, is 0$",
    "a RoPE factor above 1,000,000": r"factor must be a number from 0 to 1e\+06, is \d+$",
    "an image larger than a step": r"^refused: Chunked MM input disabled",
    "more than any model has": r"must be a whole number from [01] to [\d,]+, is [1-9][\d,]*$",
}
"""What we refuse on purpose where vLLM may plan, by name, and how our line says so.

Why: ``docs/safety.md``, "What is refused that vLLM takes".
"""


def known_kind(refusal: str) -> str | None:
    """Which of ``REFUSED_BY_US`` a refusal of ours is; None: none."""
    return next((kind for kind, said in REFUSED_BY_US.items() if re.search(said, refusal)), None)


class Case(NamedTuple):
    """One change to one config.

    Attributes:
        base: The config as it was.
        at: Keys that lead to the object.
        key: What is changed in it.
        change: The value put there, or a function of the old one.
    """

    base: Json
    at: tuple[str, ...]
    key: str
    change: Any

    @property
    def what(self) -> str:
        """The change in words."""
        change = self.change.__name__ if callable(self.change) else json.dumps(self.change)
        return f"{self.key} {change}"

    @property
    def name(self) -> str:
        """The change and where."""
        return ".".join((*self.at, self.what))

    def changed(self) -> Json | None:
        """The changed config; None where the change makes no sense or none."""
        config = deepcopy(self.base)
        holder = where_in(config, self.at)
        try:
            value = self.change(holder[self.key]) if callable(self.change) else self.change
        except TypeError:  # null there
            return None
        if value == holder[self.key]:
            return None
        holder[self.key] = value
        return config


def contradictions(configs: list[Json]) -> Iterator[Case]:
    """Every change to a config of each architecture and quantisation."""
    first: dict[str, Json] = {}
    for config in configs:
        quantized = (config.get("quantization_config") or {}).get("quant_method", "")
        if config.get("architectures"):
            first.setdefault(f"{config['architectures']} {quantized}", config)
    for base in map(shortened, first.values()):
        for at in objects(base):
            for key in where_in(base, at):
                for change in CHANGES.get(key) or anything(key, where_in(base, at)[key]):
                    yield Case(base, at, key, change)


def objects(config: Json, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where the config holds objects, itself first."""
    yield at
    for key, value in where_in(config, at).items():
        if isinstance(value, dict) and len(at) < 4 and "." not in key:  # no layer names
            yield from objects(config, (*at, key))


def where_in(config: Json, at: tuple[str, ...]) -> Json:
    """The object at a place."""
    for key in at:
        config = config[key]
    return config


def shortened(config: Json) -> Json:
    """With at most ``LAYERS`` layers, lists and patterns cut to them."""
    cut = deepcopy(config)
    for at in list(objects(cut)):
        part = where_in(cut, at)
        key = next((key for key in ("num_hidden_layers", "n_layer") if key in part), None)
        count = part.get(key) if key else None
        if key is None or not isinstance(count, int) or count <= LAYERS:
            continue
        part[key] = LAYERS
        for name, value in part.items():
            if isinstance(value, (list, str)) and len(value) == count:
                part[name] = value[:LAYERS]
    return cut
