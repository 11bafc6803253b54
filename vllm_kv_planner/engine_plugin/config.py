"""vLLM's resolved ``VllmConfig`` as a request of ours, and its plan.

The fields of our ``EngineArgs`` have the names of vLLM's flags, and vLLM's config objects keep the
values of most flags under these names: what is resolved there is taken as if it had been given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..config.find import FoundConfig, find_config
from ..engine_args.engine_args import EngineArgs
from ..errors import PlannerError, UnsupportedError
from ..gpu.catalogue import named_gpu
from ..gpu.gpu import GPU
from ..planning.request import plan_request
from ..planning.standalone import StandalonePlan
from ..planning.types import Plan
from ..version import VLLM

_HOLDERS = ("model_config", "cache_config", "scheduler_config", "parallel_config", "lora_config")
_OTHER_NAMES = {"kv_cache_dtype": "cache_dtype", "lora_target_modules": "target_modules"}
_NOT_TAKEN = frozenset(
    [
        # what the model's own config says again, or this planner finds by itself
        *("model", "revision", "hf_config_path", "runner", "convert", "pooler_config"),
        # set by vLLM for a hybrid model, not given
        *("block_size", "mamba_block_size"),
        # of other objects, or objects themselves
        *("others", "usage_context", "compilation_config", "attention_config", "eplb_config"),
        *("speculative_config", "kv_transfer_config", "hf_overrides", "visible_devices"),
        *("distributed_executor_backend", "quantization_config", "mm_processor_kwargs"),
    ]
)


def planned(vllm_config: Any) -> Plan:
    """The plan of an engine that vLLM is about to start.

    Raises:
        PlannerError: It cannot be planned; one line says why.
    """
    from vllm import __version__

    found = found_of(vllm_config)
    version = None if __version__.startswith(f"{VLLM}.") else __version__
    request = plan_request(
        found, gpu=gpu_here(vllm_config), vllm_version=version, **flags(vllm_config)
    )
    return StandalonePlan(request).plan


def found_of(vllm_config: Any) -> FoundConfig:
    """The model's config: the file that vLLM read, or what vLLM made of it."""
    model = vllm_config.model_config
    try:
        return find_config(
            str(model.hf_config_path or model.model), revision=model.revision, offline=True
        )
    except PlannerError:
        return FoundConfig(str(model.model), model.hf_config.to_dict(), "local")


def gpu_here(vllm_config: Any) -> GPU | None:
    """The device that vLLM found; None on a CPU, whose memory the flags give.

    Raises:
        UnsupportedError: They give none there.
    """
    if str(vllm_config.device_config.device_type) == "cpu":
        if vllm_config.cache_config.kv_cache_memory_bytes is None:
            raise UnsupportedError(
                "the KV memory of a CPU is planned where it is given: --kv-cache-memory-bytes or "
                "VLLM_CPU_KVCACHE_SPACE"
            )
        return None
    from vllm.platforms import current_platform

    return named_gpu(
        current_platform.get_device_name(0), current_platform.get_device_total_memory(0)
    )


def flags(vllm_config: Any) -> dict[str, Any]:
    """Arguments by vLLM's names."""
    given = dict(_plain(vllm_config))
    cache, model = vllm_config.cache_config, vllm_config.model_config
    on_cpu = str(vllm_config.device_config.device_type) == "cpu"
    if getattr(cache, "user_specified_block_size", False) or on_cpu:
        given["block_size"] = cache.block_size
    given["enable_lora"] = vllm_config.lora_config is not None
    given["dtype"] = str(model.dtype).removeprefix("torch.")
    given |= {key: dict(value) for key, value in _objects(vllm_config) if value}
    return given


def _plain(vllm_config: Any) -> Iterator[tuple[str, Any]]:
    holders = [getattr(vllm_config, name, None) for name in _HOLDERS]
    for flag in EngineArgs.__annotations__:
        name = _OTHER_NAMES.get(flag, flag)
        holder = next((each for each in holders if hasattr(each, name)), None)
        if flag in _NOT_TAKEN or holder is None:
            continue
        value = getattr(holder, name)
        if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
            value = tuple(value)
        elif value is None or not isinstance(value, (bool, int, float, str)):
            continue
        yield flag, value


def _objects(vllm_config: Any) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    """The flags that are JSON objects, from vLLM's objects of the same name."""
    compiled = vllm_config.compilation_config
    mode = getattr(compiled, "cudagraph_mode", None)
    yield (
        "compilation_config",
        {
            **({} if mode is None else {"cudagraph_mode": mode.name}),
            "cudagraph_capture_sizes": list(compiled.cudagraph_capture_sizes or []),
        },
    )
    overrides = vllm_config.model_config.hf_overrides
    yield "hf_overrides", overrides if isinstance(overrides, dict) else None
    speculative = vllm_config.speculative_config
    if speculative is not None:
        keys = ("method", "model", "num_speculative_tokens", "draft_tensor_parallel_size")
        values = {key: getattr(speculative, key, None) for key in keys}
        yield "speculative_config", {k: v for k, v in values.items() if v is not None}
    transfer = vllm_config.kv_transfer_config
    if transfer is not None:
        names = ("kv_connector", "kv_role", "kv_connector_extra_config")
        yield "kv_transfer_config", {name: getattr(transfer, name) for name in names}
