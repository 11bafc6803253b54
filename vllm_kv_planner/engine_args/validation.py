"""One field of EngineArgs at a time: ranges and choices, as vLLM 0.33's configs declare them.

Sources: the ``Field(ge=…)`` and ``Literal`` types of vllm/config/*.py; ``CompilationConfig``
(vllm/config/compilation.py) and ``MultiModalConfig`` (vllm/config/multimodal.py) for what their
JSON objects hold beside the types (``value_types.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ..errors import InputError, UnknownNameError, nearest
from .flag_table import Flag, all_flags, flag_of
from .value_types import check_types, flag_name, read_config, shown

_LARGEST = 1 << 62
"""No count or size of vLLM's comes near."""
_SKIP_LAYERS = ("sliding_window",)
"""Kinds of layers whose cache can keep the model's dtype; other words are layer indices."""


def check_engine_args(args: Any) -> None:
    """Raise InputError for the first field whose value vLLM would refuse by itself.

    Objects of JSON are put into their types, as vLLM does (``"3"`` is 3).
    """
    check_types(args)
    for name, least, most in _bounds():
        _check_number(name, getattr(args, name), least, most)
    for name, valid in _choices():
        _check_choice(name, getattr(args, name), valid)
    if not 0 < args.gpu_memory_utilization <= 1:
        raise InputError(
            f"--gpu-memory-utilization: {shown(args.gpu_memory_utilization)}; "
            "it must be greater than 0 and at most 1"
        )
    length = args.max_model_len
    if length is not None and not (1 <= length <= _LARGEST or length == -1):
        raise InputError(
            f"--max-model-len: max_model_len must be a positive integer, got {shown(length)}; "
            "-1 or auto fits it to the memory"
        )
    backend = args.attention_backend
    if backend is not None and backend.lower() != "auto":
        _check_choice("attention_backend", backend.upper(), flag_of("attention_backend").names)
    if args.quantization is not None:
        # marlin: a name for GPTQ and AWQ checkpoints alone
        methods = (*flag_of("quantization").names, "marlin")
        _check_choice("quantization", args.quantization.lower(), methods)
    if args.limit_mm_per_prompt:
        check_multimodal_limits(args.limit_mm_per_prompt)
    _check_configs(args)
    check_capture_sizes("--cudagraph-capture-sizes", args.cudagraph_capture_sizes)
    for word in args.kv_cache_dtype_skip_layers:
        if word not in _SKIP_LAYERS and not (word.isascii() and word.isdigit()):
            raise InputError(
                f"--kv-cache-dtype-skip-layers: {shown(word)}; valid: a layer's index, "
                f"{', '.join(_SKIP_LAYERS)}"
            )
    if args.usage_context not in ("server", "llm"):
        raise InputError(f"usage context {shown(args.usage_context)}; valid: server, llm")


def _check_configs(args: Any) -> None:
    for flag in _with_keys():
        value = getattr(args, flag.field)
        if value:
            object.__setattr__(args, flag.field, read_config(flag, value))
    if args.attention_config:
        check_attention(args.attention_config)
    if args.compilation_config:
        check_compilation(args.compilation_config)


@lru_cache(maxsize=1)
def _bounds() -> list[tuple[str, int, int]]:
    flags = (flag for flag in all_flags() if flag.least is not None)
    return [(flag.field, flag.least or 0, flag.most or _LARGEST) for flag in flags]


@lru_cache(maxsize=1)
def _choices() -> list[tuple[str, tuple[Any, ...]]]:
    """The fields that take one of some names, but for those that take them in any case."""
    in_any_case = ("attention_backend", "quantization")
    understood = (flag for flag in all_flags() if flag.is_understood and flag.names)
    return [(flag.field, flag.names) for flag in understood if flag.field not in in_any_case]


@lru_cache(maxsize=1)
def _with_keys() -> tuple[Flag, ...]:
    return tuple(flag for flag in all_flags() if flag.keys and flag.is_understood)


def _check_number(name: str, value: Any, least: int, most: int) -> None:
    if value is None or least <= value <= most:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{flag_name(name)}: {value!r} is not a number")
    bound = f"at least {least}" if value < least else f"at most {most:,}"
    raise InputError(f"{flag_name(name)}: {shown(value)}; it must be {bound}")


def _check_choice(name: str, value: Any, valid: tuple[Any, ...]) -> None:
    if value is None or value in valid:
        return
    words = [str(choice) for choice in valid]
    if len(words) > 12:
        near = nearest(str(value), words, 4, 0.3) or words[:6]
        raise UnknownNameError(
            f"{flag_name(name)}: {shown(value)} is not known to vLLM 0.33; "
            f"nearest: {', '.join(near)}"
        )
    raise InputError(f"{flag_name(name)}: {shown(value)}; valid: {', '.join(words)}")


_MODES = (
    "NONE",
    "PIECEWISE",
    "FULL",
    "FULL_DECODE_ONLY",
    "FULL_AND_PIECEWISE",
)
_LEVELS = ("NONE", "STOCK_TORCH_COMPILE", "DYNAMO_TRACE_ONCE", "VLLM_COMPILE")
_MOST = 1 << 40


def check_multimodal_limits(limits: Mapping[str, Any]) -> None:
    """``{"image": 2, "video": {"count": 1, "num_frames": 32}}``: whole numbers from 0 up."""
    for kind, limit in limits.items():
        values = limit if isinstance(limit, Mapping) else {"count": limit}
        for name, value in values.items():
            if value is not None and not _is_count(value, 0):
                raise InputError(
                    f"--limit-mm-per-prompt: {kind} {name} is {shown(value)}; "
                    "expected a whole number from 0 up"
                )


def check_attention(config: Mapping[str, Any]) -> None:
    """The part of ``--attention-config`` that its class reads in a way of its own."""
    backend = config.get("backend")
    if backend is not None and not isinstance(backend, str):
        raise InputError(
            f"--attention-config: backend is {shown(backend)}; expected a backend's name"
        )


def check_compilation(config: Mapping[str, Any]) -> None:
    """The parts of ``--compilation-config`` that decide what graphs are captured."""
    flag = "--compilation-config"
    check_capture_sizes(f"{flag}: cudagraph_capture_sizes", config.get("cudagraph_capture_sizes"))
    largest = config.get("max_cudagraph_capture_size")
    if largest is not None and not _is_count(largest, 0):
        raise InputError(
            f"{flag}: max_cudagraph_capture_size is {shown(largest)}; "
            "expected a whole number from 0 up"
        )
    mode = config.get("mode")
    if mode is not None and mode not in range(len(_LEVELS)) and str(mode).upper() not in _LEVELS:
        raise InputError(f"{flag}: mode is {shown(mode)}; valid: 0 to 3, {', '.join(_LEVELS)}")
    mode = config.get("cudagraph_mode")
    if mode is not None and _mode_name(mode) not in _MODES:
        raise InputError(f"{flag}: cudagraph_mode is {shown(mode)}; valid: {', '.join(_MODES)}")


def _mode_name(mode: Any) -> str:
    if isinstance(mode, int):
        return "NONE" if mode in range(3) else ""
    if isinstance(mode, (list, tuple)):  # an enum's value, as logs show it
        return "FULL" if all(each in range(3) for each in mode) and mode else ""
    return str(mode).upper().rpartition(".")[2]


def check_capture_sizes(flag: str, sizes: Any) -> None:
    """Batch sizes to capture: whole numbers from 1 up."""
    if sizes is None:
        return
    good = isinstance(sizes, (list, tuple)) and all(_is_count(size, 1) for size in sizes)
    if not good:
        raise InputError(f"{flag}: {shown(sizes)}; expected a list of whole numbers from 1 up")


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MOST
