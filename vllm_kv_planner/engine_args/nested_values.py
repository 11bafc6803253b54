"""What stands inside flags that hold lists or JSON, beside the types (``config_values.py``).

Sources: ``CompilationConfig`` (vllm/config/compilation.py) and ``MultiModalConfig``
(vllm/config/multimodal.py) of vLLM 0.33.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from .value_types import shown

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
