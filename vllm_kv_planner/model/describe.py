"""From a config to what the planner must know of the model: facts and cache layers.

The steps are vLLM's own: the architecture is picked and its row found, the language model's config
is taken out of the whole and completed with its class's defaults, the general facts are read, and
the row's rule lists the cache layers.

Source: vLLM 0.33 ``config/model.py`` ``ModelConfig.__post_init__``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..config.found import named_quantization, planned_without
from ..errors import InputError, UnsupportedError
from ..records import replace
from ..version import VLLM
from .architectures.general import (
    Convertor,
    config_dtype,
    convertor,
    is_latent,
    largest,
    num_experts,
)
from .architectures.hf_config import (
    check_class,
    check_model_type,
    language_config,
    overridden,
)
from .architectures.registry import (
    Resolved,
    Row,
    inner_architecture,
    model_types,
    resolve,
    row,
    rule,
    unsupported,
)
from .config import Config
from .description import ModelDescription, ModelReader
from .plausible import check_layers, check_plausible
from .rope_rules import check_rope
from .value_rules import check_values_of

if TYPE_CHECKING:
    from .layers.base import CacheLayer


def describe(
    config: Mapping[str, Any],
    *,
    where: str,
    hf_overrides: Mapping[str, Any] | None = None,
    language_model_only: bool = False,
    disable_sliding_window: bool = False,
    runner: str = "auto",
    convert: str = "auto",
    is_pooling: bool = False,
    any_type: bool = False,
    name: str = "",
) -> ModelDescription:
    """What a model is, from its config alone; arguments are the flags of their names.

    ``where`` names the config in messages. ``language_model_only``: no image, audio or video will
    be passed (or every limit of ``--limit-mm-per-prompt`` is 0). ``is_pooling``: the checkpoint has
    a sentence-transformers pooling configuration. ``any_type``: the config is a copy of ours, whose
    ``model_type`` the published file need not have.

    Raises:
        UnsupportedError: Nobody wrote a rule for the architecture.
        ConfigError: A value is missing or makes no sense.
    """
    overrides = hf_overrides or {}
    top = Config(overridden(config, overrides), where)
    model_type = top.str("model_type", default="")
    resolved = resolve(
        architectures(top, model_type),
        runner=runner,
        convert=convert,
        is_pooling=is_pooling,
        where=where,
    )
    if not any_type:
        check_model_type(top, model_type, resolved)
    text_type = resolved.row.get("text_type", "")
    text = stated = language_config(top, model_type, text_type)
    check_plausible(top, text)
    check_class(Config(config, where), model_type, text_type)
    if disable_sliding_window or text.get("sliding_window") == 0:
        check_windowless(text.opt_str("model_type") or model_type, where)
        text = Config({**text.data, "sliding_window": None}, where, prefix=text.prefix)
    facts = convertor(model_type)
    mm_prefix = facts.is_mm_prefix_lm(top, text) and not language_model_only
    reader = read(top, text, facts, resolved, mm_prefix)
    check_rope(text, reader.head_size)
    inner = inner_reader(reader, resolved.row)
    for found in (resolved.row, inner.options)[: 2 if inner is not reader else 1]:
        check_values_of(found, top, text)
    layers = tuple(rule(inner.options["rule"])(inner))
    check_layers(text, layers)
    return _description(resolved, reader, inner, layers, stated, name)


def _description(
    resolved: Resolved,
    reader: ModelReader,
    inner: ModelReader,
    layers: tuple[CacheLayer, ...],
    stated: Config,
    name: str,
) -> ModelDescription:
    """What was read, put together; ``stated`` has the window, ``inner`` is what the rule saw."""
    top, text = reader.top, reader.text
    flags = resolved.row.get("flags", ())
    dtype = config_dtype(top, text)
    named = named_quantization(name, top.data)
    planned = () if named is None else (planned_without(named, top.data, dtype),)
    return ModelDescription(
        architecture=resolved.architecture,
        config=top.data,
        text_config=stated.data,
        layers=layers,
        num_hidden_layers=reader.num_hidden_layers,
        num_attention_heads=reader.num_attention_heads,
        num_kv_heads=reader.num_kv_heads,
        head_size=reader.head_size,
        hidden_size=text.int("hidden_size", default=0, minimum=0),
        vocab_size=text.int("vocab_size", default=0, minimum=0),
        dtype=dtype,
        is_hybrid="hybrid" in flags and not all_attention(top),
        is_attention_free="attention_free" in flags,
        is_multimodal="multimodal" in flags,
        is_encoder_decoder=is_encoder_decoder(top, text),
        is_moe=num_experts(text) > 0,
        use_mla=bool(resolved.row.get("latent")) or (is_latent(text) and reader.is_causal),
        is_mm_prefix_lm=reader.use_mm_prefix,
        runner_type=resolved.runner_type,
        supports_pp="no_pp" not in flags,
        default_mamba_ssm_cache_dtype=ssm_cache_dtype(resolved.row, text),
        removed_in=resolved.row.get("removed_in"),
        unstated_quantization=named,
        notes=(*planned, *notes(resolved)),
        reader=inner,
    )


WINDOW_REQUIRED = frozenset(
    [
        "cwm",
        "diffusion_gemma_text",
        "embedding_gemma2_text",
        "exaone_moe",
        "gemma3n_text",
        "gemma4_text",
        "gemma4_unified_text",
        "mimo_v2_flash",
        "modernbert",
        "openai_privacy_filter",
    ]
)
"""Types whose config class (transformers 5.20) takes no ``sliding_window`` of None."""


def check_windowless(model_type: str, where: str) -> None:
    """Refuse to take the window from a config whose class insists on one."""
    if model_type in WINDOW_REQUIRED:
        raise InputError(
            f"{where}: Field 'sliding_window' expected int, got NoneType: the window of "
            f"{model_type} models cannot be switched off; leave --disable-sliding-window out"
        )


def architectures(top: Config, model_type: str) -> list[str]:
    """The config's ``architectures``; the base model of its type where it lists none."""
    listed = top.list_of_strs("architectures", default=())
    if not listed:
        base = model_types()["base"].get(model_type)
        if base is None:
            raise UnsupportedError(
                f"{top.where}: the config names no architectures; --hf-overrides "
                '\'{"architectures": ["…"]}\' can'
            )
        listed = [base]
    return listed


def read(
    top: Config, text: Config, facts: Convertor, resolved: Resolved, mm_prefix: bool
) -> ModelReader:
    """The general facts, for the rule."""
    types = text.list_of_strs("layer_types", default=()) or None
    window = text.opt_int("sliding_window")
    if types is not None and any(kind != "sliding_attention" for kind in types):
        window = None
    return ModelReader(
        top=top,
        text=text,
        options=resolved.row,
        num_hidden_layers=facts.num_hidden_layers(text),
        num_attention_heads=facts.num_attention_heads(text),
        num_kv_heads=largest(text, facts.num_kv_heads),
        head_size=largest(text, facts.head_size),
        layer_types=None if types is None else tuple(types),
        model_window=window,
        is_causal=is_causal(text, resolved.row),
        use_mm_prefix=mm_prefix,
    )


def is_causal(text: Config, found: Row) -> bool:
    """Whether layers mask the future: the row, or a key the row names, else the config."""
    said = found.get("is_causal", True)
    if isinstance(said, str):
        key = said.removeprefix("not ")
        return text.bool(key, default=said == key) == (said == key)
    is_null = text.data.get("is_causal", True) is None  # which vLLM takes for no
    return said and not is_null and text.bool("is_causal", default=True)


def is_encoder_decoder(top: Config, text: Config) -> bool:
    """Whether the whole config says so, or else the language model's (vLLM's function's name)."""
    key = "is_encoder_decoder"
    if top.bool(key, default=False):
        return True
    if text.data.get(key, False) is None:
        raise text.refused(key, None, "must be true or false")
    return text.bool(key, default=False)


def inner_reader(reader: ModelReader, found: Row) -> ModelReader:
    """The reader for the language model's own rule, where the row is a wrapper's."""
    if "text" not in found:
        return reader
    model_type = reader.text.str("model_type", default="")
    name = inner_architecture(found, reader.text.data, model_type, reader.text.where)
    inner = row(name)
    if inner is None or "text" in inner:
        raise unsupported(name, reader.text.where)
    return replace(reader, options=inner)


def all_attention(top: Config) -> bool:
    """A hybrid class whose config has no layer but attention (Granite 4 Micro)."""
    types = top.get("layer_types")
    if not isinstance(types, list):
        return False
    return all(kind in ("attention", "full_attention") for kind in types)


def ssm_cache_dtype(found: Row, text: Config) -> str:
    """Dtype of recurrent states that the model's own config rule sets under ``auto``."""
    said = found.get("mamba_ssm_dtype")
    return "auto" if said is None else text.str(said["key"], default=said.get("default", "auto"))


def notes(resolved: Resolved) -> tuple[str, ...]:
    """What the reader of the plan should know of this architecture."""
    said = []
    if removed := resolved.row.get("removed_in"):
        said.append(f"vLLM ran {resolved.architecture} up to {removed}; {VLLM} does not")
    if plugin := resolved.row.get("plugin"):
        said.append(f"vLLM 0.33 runs {resolved.architecture} with a plugin: {plugin}")
    return tuple(said)
