"""What a config's own transformers class refuses, before vLLM sees it.

Types of fields, which must divide which, and which classes mind their lists of layer types are
data: ``types``, ``divides`` and ``layer_types`` of ``defaults.jsonl``, written from the classes by
``tools/make_defaults.py``.

Source: transformers 5.20 ``configuration_utils.py`` ``PreTrainedConfig.validate_layer_type``, each
class's ``validate_architecture``; huggingface_hub 2.4 ``dataclasses.py`` ``type_validator``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from .config import Config
from .defaults import class_line

LEGACY_LAYER_TYPES = {
    "mamba": "linear_attention",
    "attention": "full_attention",
    "deepseek_sparse_attention": "indexed_attention",
    "qwen_sparse_attention": "indexed_attention",
}
"""Layer types by their earlier names (``_LEGACY_LAYER_TYPE_REMAP``)."""
_LAYER_TYPES = {
    "layer_types": frozenset(
        [
            *("full_attention", "sliding_attention", "chunked_attention", "window_attention"),
            *("indexed_attention", "compressed_sparse_attention", "minimax_m3_sparse", "conv"),
            *("heavily_compressed_attention", "moe", "hybrid", "hybrid_sliding"),
            *("reference_sliding_attention", "linear_attention"),
        ]
    ),
    "mlp_layer_types": frozenset(["sparse", "dense"]),
}
_OWN_LAYER_TYPES = {"hy_v4": ("sparse_attention", "sparse")}
"""Names that a class of vLLM's translates first (``transformers_utils/configs/hy_v4.py``)."""
_VISION = (("hidden_size", "num_heads"), ("embed_dim", "num_heads"))
_HEADS = (("hidden_size", "num_attention_heads"),)
_VLLM_DIVIDES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "gpt_bigcode": (("hidden_size", "num_attention_heads"),),
    "whisper": (("d_model", "encoder_attention_heads"), ("d_model", "decoder_attention_heads")),
    "qwen2_vl": _VISION[1:],
    **dict.fromkeys(("qwen2_5_vl", "qwen2_5_vl_vision", "qwen3_vl"), _VISION[:1]),
    **dict.fromkeys(("qwen3_vl_vision", "qwen3_vl_moe", "qwen3_vl_moe_vision"), _VISION[:1]),
    **dict.fromkeys(("qwen3_5", "qwen3_5_vision", "qwen3_5_moe"), _VISION[:1]),
    "qwen2_vl_vision": _VISION[1:],
    "clip_vision_model": (("image_size", "patch_size"), *_HEADS),
    **dict.fromkeys(("siglip_vision_model", "intern_vit_6b", "bert", "roberta"), _HEADS),
    "xlm-roberta": _HEADS,
}
"""Pairs that vLLM's own classes insist on (``models/gpt_bigcode.py``, ``whisper.py``, ``clip.py``,
``siglip.py``, ``intern_vit.py``, ``bert.py``, and ``distributed/utils.py`` ``divide`` in the
towers of ``qwen2_vl.py`` to ``qwen3_vl.py``)."""
_MAMBA = (("mamba_expand", "hidden_size"), ("mamba_n_heads", "mamba_d_head"))
_SAME_PRODUCTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "mamba2": (("expand", "hidden_size"), ("num_heads", "head_dim")),
    **dict.fromkeys(("bamba", "granitemoehybrid", "falcon_h1"), _MAMBA),
}
"""Numbers whose products the class wants equal (``validate_architecture``)."""
_TYPES: Mapping[str, tuple[type, ...]] = {
    "null": (type(None),),
    "bool": (bool,),
    "int": (int,),
    "float": (float,),
    "str": (str,),
    "list": (list, tuple),
    "dict": (dict,),
}


def check_types(given: Config, model_type: str) -> None:
    """Refuse values of a type that the class of ``model_type`` does not take.

    Args:
        given: The object as the file has it.
        model_type: Its type; unknown ones are not checked.

    Raises:
        ConfigError: Naming the key, its value and the types that may stand there.
    """
    types = class_line(model_type).get("types", {})
    for kinds, names in types.items():
        valid = kinds.split("|")
        for name in names.split():
            if name in given.data and not _is_one_of(given.data[name], valid):
                words = " or ".join(valid)
                value = given.data[name]
                raise given.refused(name, value, f"must be {words} in a {model_type} config")


def check_divisions(full: Config, model_type: str) -> None:
    """Refuse lists of a wrong length, and widths that do not divide into heads.

    Raises:
        ConfigError: Naming both keys and their values.
    """
    data = full.data
    for key, count in class_line(model_type).get("lengths", ()):
        items, number = data.get(key), data.get(count)
        if isinstance(items, list) and type(number) is int and len(items) != number:
            raise full.error(key, f"lists {len(items)} items, {count} is {number}")
    pairs = (*class_line(model_type).get("divides", ()), *_VLLM_DIVIDES.get(model_type, ()))
    for larger, smaller in pairs:
        size, parts = data.get(larger), data.get(smaller)
        if type(size) is int and type(parts) is int and parts > 0 and size % parts:
            raise full.error(larger, f"({size}) must be a multiple of {smaller} ({parts})")


def check_values(full: Config, model_type: str) -> None:
    """Refuse what the class says contradicts itself.

    Args:
        full: The object with its class's defaults and derived values.
        model_type: Its type; unknown ones are not checked.

    Raises:
        ConfigError: Naming the key, its value and what is valid.
    """
    check_divisions(full, model_type)
    _check_products(full, _SAME_PRODUCTS.get(model_type, ()))
    if class_line(model_type).get("layer_types"):
        _check_layer_types(full, model_type)


def _check_products(full: Config, sides: Iterable[tuple[str, ...]]) -> None:
    """Both products are the same; one of the inner width itself stands for the first."""
    if type(full.data.get("mamba_d_ssm")) is int:  # Falcon-H1
        sides = [("mamba_d_ssm",), *list(sides)[1:]]
    products = {}
    for keys in sides:
        numbers = [number for key in keys if type(number := full.data.get(key)) is int]
        if len(numbers) < len(keys):
            return
        products[" x ".join(keys)] = prod(numbers)
    if len(set(products.values())) > 1:
        words = " and ".join(f"{keys} ({product})" for keys, product in products.items())
        raise full.error(next(iter(sides))[0], f"contradicts: {words} must be the same")


def _check_layer_types(full: Config, model_type: str) -> None:
    """Every type is known, and there is one for each layer (``validate_layer_type``)."""
    count = full.data.get("num_hidden_layers")
    for key, known in _LAYER_TYPES.items():
        types = full.data.get(key)
        if not isinstance(types, (list, tuple)):
            return  # so does the class: the second list is looked at beside the first only
        for index, kind in enumerate(types):
            if isinstance(kind, str) and kind in _OWN_LAYER_TYPES.get(model_type, ()):
                continue
            if not isinstance(kind, str) or LEGACY_LAYER_TYPES.get(kind, kind) not in known:
                words = ", ".join(sorted(known))
                raise full.refused(f"{key}[{index}]", kind, f"must be one of {words}")
        if type(count) is int and count != len(types):
            raise full.error(key, f"lists {len(types)} layers, num_hidden_layers is {count}")


def _is_one_of(value: Any, kinds: list[str]) -> bool:
    """Whether JSON's value has one of the types; true and false are no whole numbers."""
    if isinstance(value, bool):
        return "bool" in kinds
    return any(isinstance(value, _TYPES[kind]) for kind in kinds)
