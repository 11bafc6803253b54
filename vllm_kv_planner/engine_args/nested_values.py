"""What stands inside flags that hold lists or JSON.

Sources: ``CompilationConfig`` (vllm/config/compilation.py) and ``MultiModalConfig``
(vllm/config/multimodal.py) of vLLM 0.33.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..data_files import read_json
from ..errors import InputError, UnknownNameError, printable
from .value_types import shown

if TYPE_CHECKING:
    from .flag_table import Flag

_MODES = (
    "NONE",
    "PIECEWISE",
    "FULL",
    "FULL_DECODE_ONLY",
    "FULL_AND_PIECEWISE",
)
_LEVELS = ("NONE", "STOCK_TORCH_COMPILE", "DYNAMO_TRACE_ONCE", "VLLM_COMPILE")
_MOST = 1 << 40


def known_part(flag: Flag, value: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a flag's JSON object whose keys are those of its configuration class."""
    keys = read_json(__file__, "config_keys.json")["classes"][flag.keys]
    return {key: each for key, each in value.items() if key in keys}


def check_keys(flag: Flag, value: Mapping[str, Any]) -> None:
    """Refuse a key that the flag's configuration class does not have, as its ``extra="forbid"``.

    Raises:
        UnknownNameError: Says which, and the nearest that there is.
    """
    classes = read_json(__file__, "config_keys.json")["classes"]
    if flag.keys == "SpeculativeConfig":  # create_speculative_config in arg_utils.py takes both
        value = {key.replace("-", "_"): each for key, each in value.items()}
    waiting = [("", flag.keys, value)]
    while waiting:
        path, cls, given = waiting.pop()
        keys = classes[cls]
        for key, each in given.items():
            name = f"{path}{key}"
            if key not in keys:
                from difflib import get_close_matches

                near = get_close_matches(str(key), keys, n=1, cutoff=0.6)
                hint = f"nearest: {near[0]}" if near else f"valid: {', '.join(keys)}"
                raise UnknownNameError(
                    f"{flag.spellings[0]}: vLLM 0.33 has no {printable(name[:60])!r}; {hint}"
                )
            if keys[key] and isinstance(each, Mapping):
                waiting.append((f"{name}.", keys[key], each))


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
    """The parts of ``--attention-config`` that choose the kernels."""
    flag = "--attention-config"
    backend = config.get("backend")
    if backend is not None and not isinstance(backend, str):
        raise InputError(f"{flag}: backend is {shown(backend)}; expected a backend's name")
    version = config.get("flash_attn_version")
    if version is not None and (type(version) is not int or version not in (2, 3, 4)):
        raise InputError(f"{flag}: flash_attn_version is {shown(version)}; valid: 2, 3, 4")


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
