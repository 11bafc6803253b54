"""What vLLM 0.33 and its library refuse of a compressed-tensors config; its schemes as a table.

Source: vLLM 0.33 ``layers/quantization/compressed_tensors/compressed_tensors.py``
``_get_scheme_from_parts`` and the ``_is_…`` methods it asks; compressed-tensors
``quantization/quant_args.py`` ``QuantizationArgs``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import InputError

Arguments = Mapping[str, Any]

_PACKED = ("pack-quantized",)
_ACTIVATED = ("naive-quantized", "int-quantized", "float-quantized", "nvfp4-pack-quantized")
_FEW = (2, 3, 4, 5, 6, 7, 8)
_ROWS, _WIDE = ("channel", "group"), ("tensor", "channel", "block")

_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("symmetric",), "true or false"),
    "dynamic": "true, false or local",
    "type": "int or float",
    **dict.fromkeys(("scale_dtype", "zp_dtype"), "null or a dtype of torch"),
    "observer": "null or a word",
    "observer_kwargs": "an object",
}
_DTYPES = frozenset(
    [
        *("float32", "float16", "bfloat16", "float64", "float", "half", "double", "bool"),
        *("int8", "int16", "int32", "int64", "short", "int", "long"),
        *("uint8", "uint16", "uint32", "uint64", "cfloat", "cdouble", "complex64", "complex128"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
    ]
)


class _Part(NamedTuple):
    """What a scheme asks of weights or of activations; None, empty: it does not mind."""

    kind: str | None = None
    bits: tuple[int, ...] = ()
    strategies: tuple[str, ...] = ()
    group_size: int | None = None
    symmetric: bool = False
    dynamic: bool | None = None

    def takes(self, own: Arguments) -> bool:
        """Whether arguments, with their defaults, are such ones."""
        size = own.get("group_size")
        by_size = "tensor" if size is None else "channel" if size == -1 else "group"
        return (
            self.kind in (None, own.get("type", "int"))
            and (not self.bits or own.get("num_bits", 8) in self.bits)
            and (
                not self.strategies
                or str(own.get("strategy") or by_size).lower() in self.strategies
            )
            and self.group_size in (None, size)
            and (not self.symmetric or own.get("symmetric", True) is not False)
            and self.dynamic in (None, bool(own.get("dynamic")))
        )


class _Scheme(NamedTuple):
    """Weights, activations (False: none, None: any or none), formats (empty: any)."""

    weights: _Part
    inputs: _Part | bool | None = None
    formats: tuple[str, ...] = ()


_NVFP4 = _Part("float", (4,), ("tensor_group",), 16, symmetric=True)
_BY_TOKEN = _Part("int", (4, 8), ("token", "group"), symmetric=True, dynamic=True)
_INT8 = _Part(None, (8,), ("tensor", "channel"), symmetric=True, dynamic=False)
SCHEMES = (
    _Scheme(_NVFP4, False),
    _Scheme(_NVFP4, _NVFP4),
    _Scheme(_Part("float", (4,), ("group",), 32, symmetric=True)),
    _Scheme(_Part("float", (8,), ("group",), 32, symmetric=True)),
    _Scheme(
        _Part("int", (4,), ("group",), symmetric=True, dynamic=False),
        _Part("float", (8,), ("token",), symmetric=True, dynamic=True),
    ),
    _Scheme(
        _Part("int", _FEW, _ROWS, dynamic=False),
        _Part("int", (8,), ("tensor",), dynamic=False),
        (*_PACKED, "int-quantized"),
    ),
    _Scheme(_Part("int", _FEW, _ROWS, dynamic=False), _BY_TOKEN, _PACKED),
    _Scheme(_Part(None, _FEW, _ROWS, dynamic=False), False, _PACKED),
    _Scheme(_Part("float", (), _WIDE, symmetric=True, dynamic=False), None, _ACTIVATED),
    _Scheme(_INT8, _Part(None, (8,), ("tensor",), dynamic=False), _ACTIVATED),
    _Scheme(_INT8, _Part(None, (8,), ("token",), dynamic=True), _ACTIVATED),
    _Scheme(
        _Part("int", (4,), _ROWS, symmetric=True, dynamic=False),
        _Part("int", (8,), ("token",), dynamic=True),
        _ACTIVATED,
    ),
)


def no_scheme(group: Arguments, default_format: object) -> str | None:
    """Why vLLM finds no scheme for a group that is meant for linear layers; None: it does."""
    weights, inputs = group.get("weights"), group.get("input_activations")
    targets = group.get("targets")
    if not isinstance(weights, Mapping) or not isinstance(targets, list):
        return None
    if all(_is_elsewhere(str(target)) for target in targets):
        return None
    kind = group.get("format") or default_format
    for scheme in SCHEMES:
        if not scheme.weights.takes(weights) or (scheme.formats and kind not in scheme.formats):
            continue
        if isinstance(scheme.inputs, _Part):
            if isinstance(inputs, Mapping) and scheme.inputs.takes(inputs):
                return None
        elif scheme.inputs is None or inputs is None:
            return None
    bits = str(weights.get("num_bits", 8))[:10]
    return (
        "No compressed-tensors compatible scheme was found for weights of "
        f"{bits} bits, type {str(weights.get('type', 'int'))[:20]}, format {str(kind)[:40]}"
    )


def _is_elsewhere(target: str) -> bool:
    """Whether a target is no linear layer, but attention or routed experts, which mind less."""
    experts = "experts" in target.lower() and "shared" not in target
    return experts or target.endswith("Attention")


def no_dtype(own: Arguments) -> str | None:
    """Why such values have no dtype; None: they have."""
    bits = own.get("num_bits", 8)
    if own.get("type") == "float" and bits not in (4, 8):
        return f"Only num_bits in (8) are supported, is {str(bits)[:10]}"
    if own.get("dynamic") == "local" and own.get("strategy") not in (None, "tensor_group"):
        return "local is only supported for strategy tensor_group"
    return None


def wrong_type(own: Arguments) -> str | None:
    """What a field of ``QuantizationArgs`` does not take; None: nothing, or a field not in it."""
    for key, valid in _TYPES.items():
        if key in own and not _is_valid(key, own[key]):
            return f"{key} must be {valid}, is {str(own[key])[:40]}"
    return None


def _is_valid(key: str, value: object) -> bool:
    """As pydantic takes it: words in any case, 0 and 1 for false and true."""
    word = value.lower() if isinstance(value, str) else None
    if key in ("symmetric", "dynamic"):
        is_bool = value in (0, 1) or word in ("true", "false", "yes", "no", "on", "off", "0", "1")
        return is_bool or (key == "dynamic" and word == "local")
    if key == "type":
        return word in ("int", "float")
    if key == "observer_kwargs":
        return isinstance(value, Mapping)
    is_dtype = isinstance(value, str) and value.removeprefix("torch.") in _DTYPES
    return value is None or is_dtype or (key == "observer" and word is not None)


_STRATEGIES = ("tensor", "channel", "group", "block", "token", "tensor_group", "attn_head")
_DYNAMIC = ("token", "tensor", "tensor_group", "group")


_LOCATIONS = ("input", "weight_input", "weight_output", "output", "k_cache", "q_attn")
_BOOL = ("inverse", "randomize", "requires_grad")


def check_transforms(checkpoint: Arguments) -> None:
    """What ``TransformScheme`` and ``TransformArgs`` of compressed-tensors refuse."""
    transforms = checkpoint.get("transform_config")
    groups = transforms.get("config_groups") if isinstance(transforms, Mapping) else None
    for name, scheme in groups.items() if isinstance(groups, Mapping) else ():
        applied = scheme.get("apply", []) if isinstance(scheme, Mapping) else None
        for own in (scheme, *(applied if isinstance(applied, list) else [None])):
            complaint = "must be an object"
            if isinstance(own, Mapping):
                complaint = next(filter(None, (_transform(key, own[key]) for key in own)), "")
            if complaint:
                raise InputError(f"quantization_config: transform {str(name)[:40]!r}: {complaint}")


def _transform(key: str, value: object) -> str | None:
    """What a field of a transform does not take, as pydantic reads it; None: nothing."""
    valid, fits = {
        **dict.fromkeys(_BOOL, ("true or false", _is_valid("symmetric", value))),
        **dict.fromkeys(("targets", "ignore", "apply"), ("a list", isinstance(value, list))),
        "location": (f"one of {', '.join(_LOCATIONS)}", value in _LOCATIONS),
        "head_dim": ("a whole number or null", value is None or type(value) is int),
        "precision": ("a dtype", value is not None and _is_valid("scale_dtype", value)),
        "type": ("a word", isinstance(value, str)),
    }.get(key, ("", True))
    return None if fits else f"{key} must be {valid}, is {str(value)[:40]}"


def check_compressed(method: str, checkpoint: Arguments) -> None:
    """What ``QuantizationArgs`` of compressed-tensors refuses; groups that no scheme takes."""
    if not isinstance(checkpoint.get("ignore", []), list):
        raise InputError("quantization_config: ignore must be a list of layer names")
    check_transforms(checkpoint)
    groups = checkpoint.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        if isinstance(group, Mapping) and not isinstance(group.get("targets"), list):
            raise InputError("quantization_config: targets of a config group must be a list")
        for key in ("weights", "input_activations", "output_activations"):
            own = group.get(key) if isinstance(group, Mapping) else None
            if isinstance(own, Mapping):
                complaint = wrong_type(own) or _wrong_arguments(own) or no_dtype(own)
                if complaint:
                    raise InputError(f"quantization_config: {key} of a config group: {complaint}")
        missing = no_scheme(group, checkpoint.get("format")) if isinstance(group, Mapping) else None
        if missing:
            raise InputError(f"quantization_config: {missing}")


def _wrong_arguments(own: Mapping[str, Any]) -> str | None:
    """As ``QuantizationArgs.validate_model_after``."""
    size, strategy, dynamic = own.get("group_size"), own.get("strategy"), own.get("dynamic")
    if size is not None and type(size) is not int:
        return f"group_size must be a whole number, is {size!s:.40}"
    if strategy is None:
        strategy = "tensor" if size is None else "channel" if size == -1 else "group"
    strategy = str(strategy)[:40].lower()
    grouped, length = strategy in ("group", "tensor_group"), size or 0
    structure = own.get("block_structure")
    has_structure = structure is not None
    numbers = structure.split("x") if isinstance(structure, str) else structure
    is_pair = isinstance(numbers, list) and len(numbers) == 2
    is_pair = is_pair and all(re.fullmatch(r"-?\d+", f"{each}") for each in numbers or ())
    complaints = (
        (
            has_structure and not is_pair,
            f"block_structure must be a list of ints [rows, cols], is {structure!s:.40}",
        ),
        (
            strategy not in _STRATEGIES,
            f"{strategy!r} is not a valid strategy ({', '.join(_STRATEGIES)})",
        ),
        (grouped and length < 1, f"strategy {strategy} requires group_size to be above 0"),
        (not grouped and length > 0, "group_size requires strategy to be set to 'group'"),
        ((strategy == "block") != has_structure, "strategy block and block_structure go together"),
        (strategy == "token" and not dynamic, "strategy token requires dynamic: true"),
        (
            dynamic and strategy not in _DYNAMIC,
            f"dynamic quantization requires a strategy of {', '.join(_DYNAMIC)}",
        ),
    )
    return next((complaint for is_wrong, complaint in complaints if is_wrong), None)
