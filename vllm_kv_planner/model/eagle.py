"""EAGLE, EAGLE-3 and DFlash: draft layers on top of the target's hidden states.

Source: vLLM 0.33 ``transformers_utils/configs/eagle.py``, ``configs/speculators/``,
``model_executor/models/llama_eagle.py``, ``llama_eagle3.py``, ``deepseek_eagle3.py``,
``qwen3_dflash.py`` ``_resolve_layer_attention``, ``_dflash_layer_causal``;
``v1/worker/gpu/spec_decode/dflash/utils.py`` ``load_dflash_model``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config.find import FoundConfig
from ..errors import InputError, UnsupportedError
from ..files.json_file import shown
from ..records import replace
from .architectures.hf_config import language_config
from .config import Config
from .describe import describe
from .description import ModelDescription
from .draft import Draft, mtp_row, tables, under_engine, where_of
from .layers.attention import Attention


def eagle_draft(
    found: FoundConfig, target: ModelDescription, method: str, *, over_stages: bool
) -> Draft:
    """EAGLE's and EAGLE-3's layers, numbered behind the target's.

    Raises:
        InputError: The target cannot work with it.
        UnsupportedError: A draft class that nobody wrote a rule for.
    """
    if target.architecture in tables()["without_shared_embedding"]:
        raise InputError(
            f"speculative method {method!r}: vLLM 0.33 does not find the token embedding of "
            f"{target.architecture}, which the draft shares"
        )
    where = where_of(found)
    values = speculators_config(found, where) or found.with_quantization
    if method == "eagle3" and uses_inner_states(values):
        check_hidden_states(target, over_stages=over_stages, method=method)
    name = eagle_architecture(values, method, where)
    base = tables()["eagle"].get(name)
    if base is None:
        raise UnsupportedError(
            f"draft model {found.id}: {shown(name)} has no rule in the stand-alone planner; "
            "--planner vllm can answer"
        )
    model = describe({**values, "architectures": [base]}, where=where, name=found.id)
    start = target.num_hidden_layers
    layers = under_engine(model, target, mm_prefix=target.is_mm_prefix_lm)
    return Draft(
        method=method,
        architecture=name,
        model=model,
        layers=tuple(replace(layer, index=start + layer.index) for layer in layers),
        found=found,
    )


def eagle_architecture(values: Mapping[str, Any], method: str, where: str) -> str:
    """The draft class's name: ``EagleLlamaForCausalLM`` for a ``LlamaForCausalLM``.

    A config of a type with MTP layers is first rewritten to those, whatever it names.
    """
    row = mtp_row(values)
    listed = Config(values, where).list_of_strs("architectures", default=("LlamaForCausalLM",))
    name = str(row["draft"]) if row is not None else listed[0] if listed else ""
    known = tables()["speculators"]
    if name.startswith("Eagle" if method == "eagle" else "Eagle3") or name.endswith("Eagle3"):
        return name
    if any(name in names.values() for names in known.values()):
        return name
    return f"{'Eagle' if method == 'eagle' else 'Eagle3'}{name}"


def speculators_config(found: FoundConfig, where: str) -> Mapping[str, Any] | None:
    """A draft in the "speculators" format, as vLLM takes it apart; None for others.

    Raises:
        UnsupportedError: An algorithm or a type of layers without a rule.
    """
    config = Config(found.config, where)
    algorithm = config.opt_str("speculators_model_type")
    if algorithm is None:
        return None
    inner = config.opt_sub("transformer_layer_config")
    values = {} if inner is None else dict(inner.data)
    names = tables()["speculators"].get(algorithm, {})
    name = names.get(str(values.get("model_type", "llama")))
    if name is None:
        raise UnsupportedError(
            f"draft model {found.id}: speculators of type {shown(algorithm)} have no rule in the "
            "stand-alone planner; --planner vllm can answer"
        )
    kept = ("draft_vocab_size", "target_hidden_size", "eagle_aux_hidden_state_layer_ids")
    stated = {key: config.data[key] for key in kept if config.data.get(key) is not None}
    return {**values, **stated, "architectures": [name]}


def uses_inner_states(values: Mapping[str, Any]) -> bool:
    """Whether the draft reads hidden states of the target's inner layers."""
    stated = values.get("eagle_config")
    return not isinstance(stated, Mapping) or stated.get("use_aux_hidden_state", True) is True


def check_hidden_states(model: ModelDescription, *, over_stages: bool, method: str) -> None:
    """Refuse targets that hand a draft no hidden states of their inner layers.

    Source: vLLM 0.33 ``v1/worker/gpu/spec_decode/eagle/eagle3_utils.py``.

    Raises:
        InputError: The target's class cannot.
        UnsupportedError: Not known whether it can across pipeline stages.
    """
    if model.architecture in tables()["without_eagle3"]:
        raise InputError(
            f"speculative method {method!r}: {model.architecture} does not support the EAGLE3 "
            "interface; take another method"
        )
    if over_stages and model.architecture not in tables()["eagle3_over_stages"]:
        raise UnsupportedError(
            f"speculative method {method!r} with pipeline stages: whether {model.architecture} "
            "hands hidden states on from stage to stage is not known; --planner vllm can answer"
        )


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
