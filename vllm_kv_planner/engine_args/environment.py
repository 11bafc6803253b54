"""Environment variables that change what vLLM 0.33 plans, read as vllm/envs.py reads them."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import InputError
from ..records import dataclass, field


@dataclass(frozen=True, kw_only=True)
class EngineEnvironment:
    """What vLLM's environment variables say; the defaults are vLLM's."""

    allow_long_max_model_len: bool = False
    """VLLM_ALLOW_LONG_MAX_MODEL_LEN: a longer max_model_len than the model's is allowed."""
    use_v2_model_runner: bool | None = None
    """VLLM_USE_V2_MODEL_RUNNER: forces or forbids Model Runner V2."""
    mla_disable: bool = False
    """VLLM_MLA_DISABLE: plain attention for DeepSeek-like models."""
    pp_layer_partition: str | None = None
    """VLLM_PP_LAYER_PARTITION: layers of each pipeline stage, comma separated."""
    allow_chunked_local_attn_with_hybrid_kv_cache: bool = True
    estimate_cudagraphs: bool = True
    """VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS: deduct CUDA graphs from the KV cache."""
    rocm_use_aiter: bool = False
    """VLLM_ROCM_USE_AITER: AMD's own kernels for attention and mixture of experts."""
    visible_devices: tuple[str, ...] | None = None
    """CUDA_VISIBLE_DEVICES (or HIP_…), split at commas; None where not set."""
    others: tuple[str, ...] = field(default=())
    """Other VLLM_ variables that were set; this planner does not read them."""


_BOOLS = {
    # name: (field, words for true; None: a whole number, zero is false)
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": ("allow_long_max_model_len", ("1", "true")),
    "VLLM_USE_V2_MODEL_RUNNER": ("use_v2_model_runner", None),
    "VLLM_MLA_DISABLE": ("mla_disable", None),
    "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE": (
        "allow_chunked_local_attn_with_hybrid_kv_cache",
        None,
    ),
    "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": ("estimate_cudagraphs", None),
    "VLLM_ROCM_USE_AITER": ("rocm_use_aiter", ("1", "true")),
}
_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def read_environment(variables: Mapping[str, str]) -> EngineEnvironment:
    """The planner's view of ``variables`` (``os.environ``, or what stood before a command).

    Raises InputError where vLLM could not read a value.
    """
    found: dict[str, bool] = {}
    others: list[str] = []
    for name, value in variables.items():
        if name in _BOOLS:
            key, words = _BOOLS[name]
            found[key] = _truth(name, value, words)
        elif name.startswith("VLLM_") and name != "VLLM_PP_LAYER_PARTITION":
            others.append(name)
    devices = next((variables[name] for name in _DEVICES if name in variables), None)
    return EngineEnvironment(
        pp_layer_partition=variables.get("VLLM_PP_LAYER_PARTITION"),
        visible_devices=(
            None if devices is None else tuple(d.strip() for d in devices.split(",") if d.strip())
        ),
        others=tuple(others),
        **found,
    )


def _truth(name: str, value: str, words: tuple[str, ...] | None) -> bool:
    if words is not None:
        return value.strip().lower() in words
    try:
        return int(value) != 0
    except ValueError:
        raise InputError(f"{name}={value[:40]!r}: vLLM reads a whole number, 0 or 1") from None
