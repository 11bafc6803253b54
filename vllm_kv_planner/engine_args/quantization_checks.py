"""What vLLM 0.33 requires of a checkpoint's quantization config, method by method.

Restates ``from_config`` and the constructors of the classes in
vllm/model_executor/layers/quantization, as far as they refuse a config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import InputError
from .checkpoint_quantization import Checkpoint, modelopt_algorithm, ordered_activations

_MARLIN_GROUPS = (-1, 32, 64, 128)
_OWNED = {
    "modelopt": ("FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_WO"),
    "modelopt_fp4": ("NVFP4", "W4A16_NVFP4"),
}
_LAYER_NAMES = ("ignore", "ignored_layers", "exclude_modules", "modules_to_not_convert")
_ALGORITHMS = (*_OWNED["modelopt"], *_OWNED["modelopt_fp4"], "MXFP8", "MIXED_PRECISION")


def check_checkpoint(method: str, checkpoint: Checkpoint) -> None:
    """Raise InputError, in vLLM's words, where the method's class would refuse the config."""
    inner = checkpoint.get("quantization")
    for part in (checkpoint, inner if isinstance(inner, Mapping) else {}):
        for key in _LAYER_NAMES:
            if part.get(key) and not isinstance(part[key], list):
                raise InputError(f"quantization_config: {key} must be a list of layer names")
    check = _CHECKS.get(method)
    if check is not None:
        check(method, checkpoint)


def _require(checkpoint: Checkpoint, *keys: str) -> Any:
    for key in keys:
        if key in checkpoint:
            return checkpoint[key]
    raise InputError(f"Cannot find any of {list(keys)} in the model's quantization config.")


def _gptq(method: str, checkpoint: Checkpoint) -> None:
    bits = _require(checkpoint, "bits")
    _require(checkpoint, "group_size")
    _require(checkpoint, "desc_act")
    symmetric = _require(checkpoint, "sym")
    complaint = ordered_activations(checkpoint)
    if complaint is not None:
        raise InputError(complaint)
    if (bits, symmetric) not in ((4, True), (8, True)):
        raise InputError(
            f"Unsupported quantization config: bits={bits!s:.40}, sym={symmetric!s:.40}"
        )
    if checkpoint["group_size"] not in _MARLIN_GROUPS:
        raise InputError(
            f"Marlin does not support group_size = {checkpoint['group_size']!s:.40}. Only "
            f"group_sizes = {', '.join(map(str, _MARLIN_GROUPS))} are supported."
        )


def _awq(method: str, checkpoint: Checkpoint) -> None:
    bits = _require(checkpoint, "w_bit", "bits")
    if _require(checkpoint, "q_group_size", "group_size") == 0:
        raise InputError("quantization_config: group_size must be -1 or a whole number above 0")
    _require(checkpoint, "zero_point")
    if bits != 4:
        raise InputError(f"Unsupported num_bits = {bits!s:.40}. Supported: 4.")


def _fp8(method: str, checkpoint: Checkpoint) -> None:
    scheme = _require(checkpoint, "activation_scheme")
    if scheme not in ("static", "dynamic"):
        raise InputError(f"Unsupported activation scheme {str(scheme)[:40]}")
    block = checkpoint.get("weight_block_size")
    if block is None:
        return
    if not isinstance(block, list) or len(block) != 2:
        raise InputError(
            f"The quantization block size of weight must have 2 dimensions, but got {block!s:.40}"
        )
    if not all(type(size) is int and size > 0 for size in block):
        raise InputError(
            f"quantization_config: weight_block_size must hold two whole numbers above 0, is "
            f"{block!s:.40}"
        )
    if scheme != "dynamic":
        raise InputError(
            "The block-wise quantization only supports dynamic activation scheme for now, but "
            f"got {scheme} activation scheme."
        )


def _modelopt(method: str, checkpoint: Checkpoint) -> None:
    if method == "mxfp8" and "quantization" not in checkpoint and not checkpoint.get("quant_algo"):
        return  # MiniMax's own spelling of it
    if method == "modelopt_mixed" and "quantized_layers" not in checkpoint:
        raise InputError(
            "Cannot find the config file for modelopt_mixed: neither config.json nor "
            "hf_quant_config.json lists quantized_layers"
        )
    algorithm = modelopt_algorithm(checkpoint)
    if not algorithm:
        raise InputError("Missing 'quant_algo' in quantization config")
    if algorithm not in _ALGORITHMS:
        raise InputError(
            f"ModelOpt currently only supports: {', '.join(_ALGORITHMS)} quantizations in vLLM; "
            f"the checkpoint's is {algorithm[:40]}"
        )
    owned = _OWNED.get(method)
    if owned is not None and algorithm not in owned:
        raise InputError(
            f"Unsupported ModelOpt quant_algo for {method}: {algorithm}. "
            f"Supported: {' / '.join(owned)}."
        )
    inner = checkpoint.get("quantization", checkpoint)
    inner = inner if isinstance(inner, Mapping) else {}
    keys = ("exclude_modules",) if inner is not checkpoint else ("ignore", "exclude_modules")
    given = next((key for key in keys if key in inner), None)
    if given is not None and not isinstance(inner[given], list):
        raise InputError(f"quantization_config: {given} must be a list of layer names")
    if method == "modelopt_mixed":
        layers = inner.get("quantized_layers")
        if not isinstance(layers, Mapping) or not layers:
            raise InputError(
                "MIXED_PRECISION quant_algo requires a non-empty 'quantized_layers' mapping in "
                "the quantization config."
            )
        for name in layers:  # thousands, at each plan: nothing is called
            layer = layers[name]
            if type(layer) is not dict or (
                "quant_algo" in layer and type(layer["quant_algo"]) is not str
            ):
                raise InputError(
                    f"quantization_config: quantized_layers.{str(name)[:100]}.quant_algo must be "
                    "a string"
                )


def _wna16(method: str, checkpoint: Checkpoint) -> None:
    _require(checkpoint, "bits")
    _require(checkpoint, "group_size")
    _require(checkpoint, "sym" if checkpoint.get("quant_method") == "gptq" else "zero_point")


def _inc(method: str, checkpoint: Checkpoint) -> None:
    bits = _require(checkpoint, "bits")
    _require(checkpoint, "group_size")
    if bits not in range(2, 9):
        raise InputError(f"Unsupported weight_bits: {bits!s:.40}, currently only support 2 to 8.")
    kind = str(checkpoint.get("data_type") or "int")
    if kind not in ("int", "fp", "fp8") and "mx_fp" not in kind:
        raise InputError(
            f"Unsupported data_type: {kind[:40]}, currently only support int, mx_fp, fp."
        )


def _fbgemm(method: str, checkpoint: Checkpoint) -> None:
    _require(checkpoint, "modules_to_not_convert")
    _require(checkpoint, "activation_scale_ub")


def _quark(method: str, checkpoint: Checkpoint) -> None:
    if "export" not in checkpoint:
        raise InputError(
            "The export key should be included in the configurations of Quark quantized model"
        )


_STRATEGIES = ("tensor", "channel", "group", "block", "token", "tensor_group", "attn_head")
_DYNAMIC = ("token", "tensor", "tensor_group", "group")


def _compressed(method: str, checkpoint: Checkpoint) -> None:
    """What ``QuantizationArgs`` of compressed-tensors refuses; groups that no scheme takes."""
    from .compressed_schemes import no_dtype, no_scheme, wrong_type

    if not isinstance(checkpoint.get("ignore", []), list):
        raise InputError("quantization_config: ignore must be a list of layer names")
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
    has_structure = own.get("block_structure") is not None
    complaints = (
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


_CHECKS: dict[str, Callable[[str, Checkpoint], None]] = {
    "compressed-tensors": _compressed,
    "auto_gptq": _gptq,
    "auto_awq": _awq,
    "moe_wna16": _wna16,
    "fp8": _fp8,
    "deepseek_v4_fp8": _fp8,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "modelopt_mxfp8": _modelopt,
    "modelopt_mixed": _modelopt,
    "mxfp8": _modelopt,
    "inc": _inc,
    "fbgemm_fp8": _fbgemm,
    "quark": _quark,
}
