"""What vLLM 0.33 requires of a quantization method's device and checkpoint, method by method.

Restates ``VllmConfig._get_quantization_config`` (vllm/config/vllm.py), ``get_quant_config``
(vllm/model_executor/model_loader/weight_utils.py); of the classes in
vllm/model_executor/layers/quantization ``get_min_capability``, ``get_supported_act_dtypes``,
``get_config_filenames``, and ``from_config`` and constructors, as far as they refuse a config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import InputError, UnsupportedError
from ..gpu.gpu import NOT_CUDA
from ..records import dataclass
from .compressed_schemes import check_compressed
from .quantization import Checkpoint, layer_quantization, modelopt_algorithm, ordered_activations


@dataclass(frozen=True)
class Method:
    """What a method's class asks of the device, and where else it looks for its config."""

    min_capability: int
    """75 is compute capability 7.5."""
    dtypes: tuple[str, ...] = ("bfloat16", "float16")
    files: tuple[str, ...] = ()
    """Read where config.json has no quantization config."""
    needs_checkpoint: bool = False
    """Cannot be made from nothing, though it reads no file."""
    kernel_capability: int = 0
    """What its linear layers ask for, where that is more (Marlin; compressed-tensors schemes)."""


_GPTQ = Method(60, files=("quantize_config.json",), kernel_capability=75)
_AWQ = Method(75, files=("quantize_config.json", "quant_config.json"))
_MODELOPT = ("hf_quant_config.json",)
_ANY = ("float32", "float16", "bfloat16")
ONLINE = Method(75)
"""Weights quantised while they are loaded (``OnlineQuantizationConfig``)."""
ONLINE_SHORTHANDS = (
    *("fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "mxfp8", "mxfp4"),
    *("int8_per_channel_weight_only", "nvfp4_per_token"),
)
"""``_ONLINE_SHORTHANDS`` of vllm/config/quantization.py."""

METHODS: dict[str, Method] = {
    "auto_awq": _AWQ,
    "auto_gptq": _GPTQ,
    "awq": _AWQ,
    "awq_marlin": _AWQ,
    "compressed-tensors": Method(70, _ANY, needs_checkpoint=True, kernel_capability=75),
    "deepseek_v4_fp8": Method(75),
    "experts_int8": Method(80),
    "fbgemm_fp8": Method(80, needs_checkpoint=True),
    "fp8": Method(75),
    "fp_quant": Method(100, ("bfloat16",)),
    "gpt_oss_mxfp4": Method(80, ("bfloat16",)),
    "gptq": _GPTQ,
    "gptq_marlin": _GPTQ,
    "humming": Method(75, needs_checkpoint=True),
    "inc": Method(60, files=("quantization_config.json",), kernel_capability=75),
    "modelopt": Method(80, files=_MODELOPT),
    "modelopt_fp4": Method(75, ("bfloat16", "float16", "float8_e4m3fn"), _MODELOPT),
    "modelopt_mixed": Method(75, files=_MODELOPT),
    "modelopt_mxfp8": Method(80, ("bfloat16",), _MODELOPT),
    "moe_wna16": Method(70, files=("quantize_config.json",), kernel_capability=75),
    "mxfp4": Method(80, ("bfloat16",)),
    "mxfp8": Method(80, ("bfloat16",), _MODELOPT),
    "online": Method(75, needs_checkpoint=True),
    "quark": Method(70, needs_checkpoint=True),
    "torchao": Method(75, _ANY, needs_checkpoint=True),
}


def check_quantization(
    method: str | None,
    config: Mapping[str, Any],
    *,
    dtype: str,
    compute_capability: tuple[int, int],
    has_online_config: bool = False,
) -> None:
    """Refuse what vLLM refuses once it makes the method's config.

    ``method`` is the resolved one, ``dtype`` the model's. ``has_online_config``: whether
    ``--quantization-config`` says how to quantise while loading. Raises InputError
    (UnsupportedError for configs in files that are not read here) in vLLM's words.
    """
    if method is None:
        return
    checkpoint = layer_quantization(config)
    if checkpoint is not None:
        check_checkpoint(method, checkpoint)
        rule = METHODS.get(method, ONLINE)
    else:
        rule = _from_nothing(method, has_online_config)
    # Intel's platform has none, and vLLM then does not compare
    known = compute_capability != NOT_CUDA
    capability = 10 * compute_capability[0] + compute_capability[1] if known else 1000
    for least, why in (
        (rule.min_capability, ". Minimum capability:"),
        (rule.kernel_capability, ": its layers' kernels need capability"),
    ):
        if capability < least:
            raise InputError(
                f"The quantization method {method} is not supported for the current GPU{why} "
                f"{least}. Current capability: {capability}."
            )
    if dtype not in rule.dtypes:
        raise InputError(
            f"{dtype} is not supported for quantization method {method}. Supported dtypes: "
            f"{', '.join(rule.dtypes)}"
        )


def _from_nothing(method: str, has_online_config: bool) -> Method:
    """What runs where the checkpoint has no quantization config."""
    if method == "fp8" or method in ONLINE_SHORTHANDS or (method == "online" and has_online_config):
        return ONLINE
    rule = METHODS[method]
    if rule.files:
        raise UnsupportedError(
            f"--quantization {method}: the model's config.json has no quantization config; vLLM "
            f"looks for {' or '.join(rule.files)} beside it (Cannot find the config file for "
            f"{method}), which is not read here"
        )
    if rule.needs_checkpoint:
        raise InputError(
            f"--quantization {method}: the model's config.json has no quantization config; "
            "vLLM cannot make this method's from nothing"
        )
    return rule


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
    for keys in _REQUIRED.get(method, ()):
        _require(checkpoint, *keys)
    check = _CHECKS.get(method)
    if check is not None:
        check(method, checkpoint)


def _require(checkpoint: Checkpoint, *keys: str) -> Any:
    found = next((key for key in keys if key in checkpoint), None)
    if found is None:
        raise InputError(f"Cannot find any of {list(keys)} in the model's quantization config.")
    return checkpoint[found]


def _gptq(method: str, checkpoint: Checkpoint) -> None:
    bits, symmetric = checkpoint["bits"], checkpoint["sym"]
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
    if bits != 4:
        raise InputError(f"Unsupported num_bits = {bits!s:.40}. Supported: 4.")


def _fp8(method: str, checkpoint: Checkpoint) -> None:
    scheme = checkpoint["activation_scheme"]
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
        what = "weight_block_size must hold two whole numbers above 0"
        raise InputError(f"quantization_config: {what}, is {block!s:.40}")
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
        for name in layers:  # thousands, at each plan
            layer = layers[name]
            if type(layer) is not dict or type(layer.get("quant_algo", "")) is not str:
                where = f"quantized_layers.{str(name)[:100]}.quant_algo"
                raise InputError(f"quantization_config: {where} must be a string")


def _wna16(method: str, checkpoint: Checkpoint) -> None:
    _require(checkpoint, "sym" if checkpoint.get("quant_method") == "gptq" else "zero_point")


def _inc(method: str, checkpoint: Checkpoint) -> None:
    bits = checkpoint["bits"]
    if bits not in range(2, 9):
        raise InputError(f"Unsupported weight_bits: {bits!s:.40}, currently only support 2 to 8.")
    kind = str(checkpoint.get("data_type") or "int")
    if kind not in ("int", "fp", "fp8") and "mx_fp" not in kind:
        raise InputError(
            f"Unsupported data_type: {kind[:40]}, currently only support int, mx_fp, fp."
        )


def _quark(method: str, checkpoint: Checkpoint) -> None:
    if "export" not in checkpoint:
        raise InputError(
            "The export key should be included in the configurations of Quark quantized model"
        )


_REQUIRED: dict[str, tuple[tuple[str, ...], ...]] = {
    "auto_gptq": (("bits",), ("group_size",), ("desc_act",), ("sym",)),
    "auto_awq": (("w_bit", "bits"), ("q_group_size", "group_size"), ("zero_point",)),
    "moe_wna16": (("bits",), ("group_size",)),
    "fp8": (("activation_scheme",),),
    "deepseek_v4_fp8": (("activation_scheme",),),
    "inc": (("bits",), ("group_size",)),
    "fbgemm_fp8": (("modules_to_not_convert",), ("activation_scale_ub",)),
}
"""Keys of a method's config, one of each group; ``get_from_keys`` of its class."""
_CHECKS: dict[str, Callable[[str, Checkpoint], None]] = {
    "compressed-tensors": check_compressed,
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
    "quark": _quark,
}
