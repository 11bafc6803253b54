"""Rotary embeddings that vLLM cannot build: unknown kinds, absent factors, widths that differ.

Source: vLLM 0.33 ``transformers_utils/config.py`` ``patch_rope_parameters``,
``model_executor/layers/rotary_embedding/`` ``get_rope`` and the classes it makes,
``models/deepseek_v2.py`` for latents; transformers 5.20 ``modeling_rope_utils.py``
``RotaryEmbeddingConfigMixin``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .class_rules import LEGACY_LAYER_TYPES
from .config import Config
from .defaults import class_line

_REQUIRED = {
    "default": (),
    "mrope": (),
    "proportional": (),
    "mllama4": (),
    "bailing_mrope": ("mrope_section",),
    "openpangu": ("mrope_section",),
    "linear": ("factor",),
    "ntk": ("factor",),
    "dynamic": (),
    "yarn": ("factor",),
    "telechat3-yarn": ("factor",),
    "deepseek_yarn": ("factor",),
    "deepseek_llama_scaling": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "longrope": ("short_factor", "long_factor"),
    "su": ("short_factor", "long_factor"),
}
"""Keys beside the kind; every kind ``get_rope`` knows, with the older names of some.

``original_max_position_embeddings`` is filled in where a kind needs it.
"""
_SAME_KINDS = ({"default", "mrope"}, {"longrope", "su"})
_FILLED = ("yarn", "llama3", "longrope")
_NUMBERS = ("factor", "low_freq_factor", "high_freq_factor", "rope_theta")
_YARN = ("yarn", "telechat3-yarn", "deepseek_yarn", "deepseek_llama_scaling")
_YARN_NUMBERS = {"beta_fast": 32, "beta_slow": 1, "rope_theta": 10_000}
"""What YaRN takes the logarithm of, and what stands in where it is not given
(``rotary_embedding/common.py`` ``yarn_find_correction_dim``)."""
_DEEPSEEK = frozenset(
    [
        *("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm_moe_dsa", "axk1"),
        *("pangu_ultra_moe", "glm4_moe_lite", "deepseek_mtp", "deepseek_v4"),
    ]
)
"""Latent types that run every kind but the default one as DeepSeek's own YaRN."""
_KEYS_OF_CLASS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("beam", "laguna", "mellum", "mimo_v2_flash"), ("rope_theta",)),
    **dict.fromkeys(
        ("gemma4_text", "gemma4_unified_text", "diffusion_gemma_text"), ("rope_theta",)
    ),
    **dict.fromkeys(("embedding_gemma2_text", "minicpm"), ("rope_theta",)),
    "gpt_oss": ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"),
}
"""Keys that a class reads whatever the kind: it fills in no default for them
(``convert_rope_params_to_dict``; vLLM's ``models/gpt_oss.py``)."""
_KINDS_OF_CLASS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("phi3", "phi3_v", "phi4mm", "phi4_multimodal"), ("default", "longrope")),
}
"""The only kinds that a class takes (``validate_rope``)."""
_WITHOUT_SECTIONS = ("qwen3_5_text", "qwen3_5_moe_text", "deepseek_v4")
"""Types that do not read sections where no images come with them."""
_BY_ROTARY_DIM = ("minimax_m2",)
"""Types whose class makes the rotated part of a head of its width (``rotary_dim``)."""
_ALSO_LONGROPE = ("su", "yarn")
"""What these classes rename to it."""


def check_rope(text: Config, head_size: int) -> None:
    """Refuse rotary embeddings of the language model that vLLM refuses.

    Args:
        text: The language model's config; types unknown to transformers and vLLM, and those
            whose class has no rotary embedding, are not checked.
        head_size: Width of a head by vLLM's general rule, in elements.

    Raises:
        ConfigError: Naming the key, its value and what is valid.
    """
    model_type = text.opt_str("model_type") or ""
    types = class_line(model_type).get("types", {})
    has_rope = any("rope_parameters" in names.split() for names in types.values())
    if not has_rope and types:
        if text.data.get("rope_theta") is not None:
            _check_odd_head(Config({}, text.where), text)
        return  # a class of a repository's own has them wherever its config gives some
    rotated = text.opt_int("qk_rope_head_dim", minimum=0)
    is_deepseek = rotated is not None and model_type in _DEEPSEEK
    for rope, named in _ropes(text):
        kind = _check_class(rope, named, model_type, text)
        _check_keys(rope, kind, is_deepseek=is_deepseek)
        _check_numbers(rope, kind, text, is_deepseek=is_deepseek)
        _check_odd_head(rope, text)
        share = 1.0 if is_deepseek else _checked_share(rope, text)
        if is_deepseek:
            _check_widths(rope, kind, rotated or 0, 1.0, model_type)
        elif rotated is None and "per_layer_config" not in text.data:
            _check_widths(rope, kind, head_size, share, "" if text.prefix else model_type)


def _ropes(text: Config) -> Iterator[tuple[Config, str]]:
    """Each set of parameters and its kind; the default where the config has none."""
    key = "rope_scaling" if text.data.get("rope_scaling") else "rope_parameters"
    found = text.data.get(key) or {}
    if not isinstance(found, Mapping):
        return  # refused as no object elsewhere
    names = [name for name in found if _is_label(name, text) and isinstance(found[name], Mapping)]
    prefix = f"{text.prefix}{key}."
    parts = [(found[name], f"{prefix}{name}.") for name in names] or [(found, prefix)]
    for values, where in parts:
        rope = Config(values, text.where, prefix=where)
        new, old = values.get("rope_type"), values.get("type")
        both = {kind for kind in (new, old) if isinstance(kind, str)}
        if len(both) == 2 and both not in _SAME_KINDS:
            raise rope.error("rope_type", f"({new}) and type ({old}) contradict each other")
        if len(both) == 1 and {"rope_type", "type"} <= values.keys() and new != old:
            raise rope.error(
                "rope_type", f"({new or 'null'}) and type ({old or 'null'}) contradict"
            )
        is_null = (
            new is None and old is None and not values.keys().isdisjoint(("rope_type", "type"))
        )
        yield rope, "null" if is_null else rope.str("rope_type", "type", default="default")


def _is_label(name: str, text: Config) -> bool:
    """Whether parameters may be nested under this name: a layer type."""
    types = text.data.get("layer_types") or ()
    return name in ("full_attention", "sliding_attention", "main", "compress") or name in {
        *types,
        *(LEGACY_LAYER_TYPES.get(kind, kind) for kind in types if isinstance(kind, str)),
    }


def _check_class(rope: Config, kind: str, model_type: str, text: Config) -> str:
    """The kind as the class names it, which takes it and finds its own keys."""
    kinds = _KINDS_OF_CLASS.get(model_type)
    if kinds is not None:
        kind = "longrope" if kind in _ALSO_LONGROPE else kind
        if kind not in kinds:
            raise rope.refused("rope_type", kind, f"must be {' or '.join(kinds)} in {model_type}")
    for key in _KEYS_OF_CLASS.get(model_type, ()) if rope.data else ():
        filled = key == "original_max_position_embeddings" and kind in _FILLED
        if not filled and rope.data.get(key) is None and text.data.get(key) is None:
            raise rope.error(key, f"is not given, {model_type} models need it")
    return kind


def _check_keys(rope: Config, kind: str, *, is_deepseek: bool) -> None:
    """The kind is known and what it needs is there."""
    if is_deepseek and kind not in ("default", "mrope"):
        needed = _REQUIRED["llama3"] if kind == "llama3" else ("factor",)
        if kind not in _FILLED:
            needed = ("factor", "original_max_position_embeddings")
    elif kind in _REQUIRED:
        needed = _REQUIRED[kind]
    else:
        known = ", ".join(sorted(_REQUIRED))
        raise rope.refused("rope_type", kind, f"must be one of {known}")
    if kind == "dynamic" and rope.data.get("alpha") is None:
        needed = (*needed, "factor")
    for key in needed:
        if rope.data.get(key) is None:
            raise rope.error(key, f"is not given, rope_type {kind} needs it")
    factors = [key for key in ("short_factor", "long_factor", "mrope_section") if key in needed]
    for key in factors:
        if not isinstance(rope.data[key], list):
            raise rope.refused(key, rope.data[key], "must be a list of numbers")


def _check_numbers(rope: Config, kind: str, text: Config, *, is_deepseek: bool) -> None:
    """The tables of sines can be computed: no logarithm, no division of what has none."""
    for key in _NUMBERS:
        if rope.data.get(key) is not None:
            rope.float(key, maximum=1e30)
    holder = rope if "rope_theta" in rope.data else text
    if holder.data.get("rope_theta", 0) is None:
        raise holder.refused("rope_theta", None, "must be a number")
    has_yarn = kind in _YARN or (is_deepseek and kind not in ("default", "mrope"))
    for key in ("mscale", "mscale_all_dim") if is_deepseek and has_yarn else ():
        if key in rope.data and not isinstance(rope.data[key], (int, float)):
            raise rope.refused(key, rope.data[key], "must be a number")
    for key in ("low_freq_factor", "high_freq_factor") if kind == "llama3" else ():
        if not is_deepseek and rope.data[key] == 0:
            raise rope.refused(key, 0, "must be above 0, positions are divided by it")
    original = "original_max_position_embeddings"
    if kind == "llama3" and original not in text.data and rope.data.get(original, 1) is None:
        raise rope.refused(original, None, "must be a whole number")
    if has_yarn:
        _check_logarithms(rope, text.get("rope_theta"))


def _check_logarithms(rope: Config, theta: object) -> None:
    for key, default in _YARN_NUMBERS.items():
        value = rope.data.get(key, (theta or default) if key == "rope_theta" else default)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or value <= 0 or (key == "rope_theta" and value == 1):
            least = "other than 1 and above 0" if key == "rope_theta" else "above 0"
            raise rope.refused(key, value, f"must be a number {least} in YaRN")
    key = "original_max_position_embeddings"
    if not rope.data.get(key, 1):
        raise rope.refused(key, rope.data[key], "must be above 0 in YaRN")


def _check_odd_head(rope: Config, text: Config) -> None:
    """A head that is rotated whole has an even width (``validate_rope``)."""
    width, share = text.data.get("head_dim"), _share(rope, text)
    if "per_layer_config" in text.data or type(width) is not int or width <= 4:
        return
    if width % 2 and int(width * share) == width:
        raise text.error("head_dim", f"({width}) must be even, as all of it is rotated")


def _check_widths(rope: Config, kind: str, width: int, share: float, text_type: str) -> None:
    """Lists are as long as there are pairs to rotate in a head (part) of this width."""
    pairs = int(width * share) // 2
    if rope.data.get("rope_dim"):
        return
    section = rope.data.get("mrope_section")
    has_sections = section and kind in ("default", "mrope", "yarn")
    has_sections = has_sections and text_type not in _WITHOUT_SECTIONS
    if has_sections and sum(rope.list_of_ints("mrope_section")) != pairs:
        raise rope.refused("mrope_section", section, f"must add up to {pairs} {_why(share)}")
    for key in ("short_factor", "long_factor") if kind in ("longrope", "su") else ():
        count = len(rope.data[key])
        if count not in (1, pairs):
            raise rope.error(key, f"must list {pairs} numbers {_why(share)}, lists {count}")


def _why(share: float) -> str:
    part = "half" if share == 1 else f"half of {share:g}"
    return f"({part} of a head's width)"


def _share(rope: Config, text: Config) -> float:
    """The part of a head that is rotated, as ``get_rope`` reads it."""
    rotated, width = text.data.get("rotary_dim"), text.data.get("head_dim")
    by_dim = text.data.get("model_type") in _BY_ROTARY_DIM and width
    if by_dim and type(rotated) is int and type(width) is int:
        return rotated / width
    for config, keys in (
        (rope, ("partial_rotary_factor",)),
        (text, ("partial_rotary_factor", "rotary_pct", "rotary_emb_fraction")),
    ):
        for key in keys:
            value = config.data.get(key)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return float(value)
    return 1.0


def _checked_share(rope: Config, text: Config) -> float:
    share = _share(rope, text)
    if 0 < share <= 1 or rope.data.get("rope_dim"):
        return share
    holder = rope if "partial_rotary_factor" in rope.data else text
    raise holder.error("partial_rotary_factor", f"={share:g} must be above 0 and at most 1")
