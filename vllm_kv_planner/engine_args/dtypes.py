"""The dtype a model runs in: ``--dtype`` against checkpoint, model family and device.

Restates ``_get_and_verify_dtype`` and ``_resolve_auto_dtype`` (vllm/config/model.py),
``get_torch_dtype`` (vllm/transformers_utils/model_arch_config_convertor.py) and
``supported_dtypes``, ``check_if_supports_dtype`` (vllm/platforms/cuda.py) of vLLM 0.33.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..records import dataclass

_SPELLINGS = {
    "half": "float16",
    "float16": "float16",
    "float": "float32",
    "float32": "float32",
    "bfloat16": "bfloat16",
}
_NO_FLOAT16 = ("gemma2", "gemma3", "gemma3_text", "glm4")


@dataclass(frozen=True)
class ModelDtype:
    """A resolved dtype: bfloat16, float16 or float32."""

    name: str
    note: str | None = None


def supported_dtypes(platform: str, compute_capability: tuple[int, int] | None) -> tuple[str, ...]:
    """Dtypes of a device, the preferred first. Unknown capability counts as new enough."""
    if platform != "cuda" or compute_capability is None or compute_capability >= (8, 0):
        return ("bfloat16", "float16", "float32")
    return ("float16", "float32") if compute_capability >= (6, 0) else ("float32",)


def checkpoint_dtype(config: Mapping[str, Any]) -> str | None:
    """The dtype config.json names: at the root, else in the text, vision or encoder part.

    None where it names none; vLLM then looks at the safetensors headers, and takes float32
    without them.
    """
    for part in (config, *(config.get(k) for k in _TEXT_PARTS), *(config.get(k) for k in _OTHER)):
        if not isinstance(part, Mapping):
            continue
        value = part.get("dtype") or part.get("torch_dtype")
        if isinstance(value, str):
            return value.removeprefix("torch.").lower()
    return None


_TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config", "decoder")
_OTHER = ("vision_config", "encoder_config")


def resolve_dtype(
    requested: str,
    *,
    checkpoint: str | None,
    model_type: str,
    is_pooling: bool = False,
    platform: str = "cuda",
    compute_capability: tuple[int, int] | None,
    gpu_name: str = "this GPU",
) -> ModelDtype:
    """The dtype of weights and activations.

    ``auto`` follows the checkpoint, except that float32 becomes the device's preferred dtype
    (float16 for pooling models) and a dtype the device or family lacks its next best.
    Raises InputError for a dtype that the model family or the device refuses.
    """
    config_dtype = checkpoint or "float32"
    asked = requested.lower()
    if asked == "auto":
        name, note = _auto(config_dtype, model_type, is_pooling, platform, compute_capability)
    elif asked in _SPELLINGS:
        name, note = _SPELLINGS[asked], None
    else:
        raise InputError(f"--dtype: Unknown dtype {requested[:40]!r}; valid: auto, bfloat16, half")
    if name == "float16" and model_type in _NO_FLOAT16:
        raise InputError(
            f"--dtype: the model type {model_type!r} does not support float16 (numerical "
            "instability); use bfloat16 or float32"
        )
    if name == "bfloat16" and name not in supported_dtypes(platform, compute_capability):
        major, minor = compute_capability or (0, 0)
        raise InputError(
            "--dtype: Bfloat16 is only supported on GPUs with compute capability of at least "
            f"8.0; {gpu_name} has {major}.{minor}. Use --dtype half"
        )
    return ModelDtype(name, note)


def _auto(
    config_dtype: str,
    model_type: str,
    is_pooling: bool,
    platform: str,
    compute_capability: tuple[int, int] | None,
) -> tuple[str, str | None]:
    supported = [
        dtype
        for dtype in supported_dtypes(platform, compute_capability)
        if not (dtype == "float16" and model_type in _NO_FLOAT16)
    ]
    preferred = "float16" if is_pooling and "float16" in supported else supported[0]
    wanted = preferred if config_dtype == "float32" else _SPELLINGS.get(config_dtype, config_dtype)
    if wanted in supported:
        return wanted, None
    return preferred, f"{wanted} is not supported here; vLLM falls back to {preferred}"
