"""DFlash: a few layers that draft a whole block at once, some of which look ahead in it.

Source: vLLM 0.33 ``model_executor/models/qwen3_dflash.py`` ``_resolve_layer_attention``,
``_dflash_layer_causal``; ``v1/worker/gpu/spec_decode/dflash/utils.py`` ``load_dflash_model``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config.find import FoundConfig
from ..errors import UnsupportedError
from ..files.json_file import shown
from ..records import replace
from .architectures.hf_config import language_config
from .config import Config
from .describe import describe
from .description import ModelDescription
from .draft import Draft, under_engine, where_of
from .eagle import check_hidden_states
from .layers.attention import Attention

ARCHITECTURE = "DFlashDraftModel"
_DECIDED_HERE = ("layer_types", "is_causal", "sliding_window", "use_sliding_window")


def dflash_draft(found: FoundConfig, target: ModelDescription, *, over_stages: bool) -> Draft:
    """DFlash's layers, numbered behind the target's.

    Raises:
        InputError: The target cannot work with it.
        UnsupportedError: A draft class that nobody wrote a rule for.
    """
    where = where_of(found)
    values = found.with_quantization
    listed = Config(values, where).list_of_strs("architectures", default=())
    if not listed or listed[0] != ARCHITECTURE or "speculators_model_type" in values:
        raise UnsupportedError(
            f"draft model {found.id}: {shown(listed[0] if listed else None)} has no rule for "
            "method 'dflash' in the stand-alone planner; --planner vllm can answer"
        )
    check_hidden_states(target, over_stages=over_stages, method="dflash")
    text = language_config(Config(values, where), str(values.get("model_type", "")), "")
    plain = {key: value for key, value in values.items() if key not in _DECIDED_HERE}
    model = describe({**plain, "architectures": ["Qwen3ForCausalLM"]}, where=where, name=found.id)
    layers = under_engine(model, target, mm_prefix=target.is_mm_prefix_lm)
    start = target.num_hidden_layers
    return Draft(
        method="dflash",
        architecture=ARCHITECTURE,
        model=replace(model, config=values),
        layers=tuple(
            replace(layer, index=start + i, sliding_window=window(text, i) or layer.sliding_window)
            if isinstance(layer, Attention)
            else layer
            for i, layer in enumerate(layers)
        ),
        found=found,
        use_non_causal=not all(is_causal(text, i) for i in range(len(layers))),
    )


def own_settings(text: Config) -> Config:
    """``dflash_config``; empty where there is none."""
    return text.opt_sub("dflash_config") or Config({}, text.where)


def is_causal(text: Config, index: int) -> bool:
    """Whether a layer masks the future: as stated, else where it has a window."""
    for config, key in ((text, "is_causal"), (own_settings(text), "causal")):
        if config.get(key) is not None:
            return config.bool(key)
    return type_of(text, index) == "sliding_attention"


def type_of(text: Config, index: int) -> str:
    """The type of a layer."""
    types = text.list_of_strs("layer_types", default=())
    if types and index >= len(types):
        raise text.error("layer_types", f"names {len(types)} layers, there is a layer {index}")
    return types[index] if types else "full_attention"


def window(text: Config, index: int) -> int | None:
    """A layer's window: by its type, or everywhere with ``use_swa``.

    Raises:
        ConfigError: It has one, and nothing says how long.
    """
    settings = own_settings(text)
    everywhere = settings.bool("use_swa", default=False)
    sliding = "sliding_attention" in text.list_of_strs("layer_types", default=())
    if type_of(text, index) != "sliding_attention" and (sliding or not everywhere):
        return None
    length = settings.opt_int("swa_window_size") or text.opt_int("sliding_window")
    if length is None:
        raise text.error("sliding_window", "is not given, nor dflash_config.swa_window_size")
    return length


def inner_layers(config: Mapping[str, Any]) -> int | None:
    """How many of the target's layers hand it their states, where its config says."""
    settings = config.get("dflash_config")
    nested = settings.get("target_layer_ids") if isinstance(settings, Mapping) else None
    for listed in (config.get("eagle_aux_hidden_state_layer_ids"), nested):
        if isinstance(listed, list) and listed:
            return len(listed)
    return None
