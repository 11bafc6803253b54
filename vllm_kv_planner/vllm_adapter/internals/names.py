"""Where each version of vLLM keeps the names this adapter uses: probed, never assumed.

vLLM 0.26 to 0.33 are tested. Any other version is tried with a warning; a name it does not
have is a refusal that says which.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from typing import Any

from ...errors import UnsupportedError
from ...version import VLLM

_LONGEST = 600


def one_line(text: str) -> str:
    """White space folded, pointers to web pages dropped, cut where it gets too long."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(
        r" (See|For further information visit) https?://\S+( for more details\.?)?", "", text
    )
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


TESTED = (*(f"0.{minor}" for minor in range(26, 33)), VLLM)

_PLANNING = ("vllm.v1.core.kv_cache_planning", "vllm.v1.core.kv_cache_utils")
"""0.33 moved planning into a module of its own."""

PLACES: dict[str, tuple[str, ...]] = {
    "EngineArgs": ("vllm.engine.arg_utils:EngineArgs",),
    "UsageContext": ("vllm.usage.usage_lib:UsageContext",),
    "current_platform": ("vllm.platforms:current_platform",),
    # the model
    "AttentionLayerBase": ("vllm.model_executor.layers.attention_layer_base:AttentionLayerBase",),
    "BaseModelLoader": ("vllm.model_executor.model_loader.base_loader:BaseModelLoader",),
    "config_registry": ("vllm.transformers_utils.config:_CONFIG_REGISTRY",),
    "get_layers_from_vllm_config": ("vllm.config:get_layers_from_vllm_config",),
    "get_model": ("vllm.model_executor.model_loader:get_model",),
    "get_model_cls": ("vllm.model_executor.model_loader.utils:get_model_cls",),
    "get_model_loader": ("vllm.model_executor.model_loader:get_model_loader",),
    "initialize_model": ("vllm.model_executor.model_loader.utils:initialize_model",),
    "register_model_loader": ("vllm.model_executor.model_loader:register_model_loader",),
    "layerwise_reload": ("vllm.model_executor.model_loader.reload:layerwise",),
    "process_weights_after_loading": (
        "vllm.model_executor.model_loader.utils:process_weights_after_loading",
    ),
    "registry": ("vllm.model_executor.models:registry",),
    "set_current_vllm_config": ("vllm.config:set_current_vllm_config",),
    "set_default_torch_dtype": ("vllm.utils.torch_utils:set_default_torch_dtype",),
    "select_common_block_size": ("vllm.v1.worker.utils:select_common_block_size",),
    "set_model_tag": ("vllm.compilation.backends:set_model_tag",),
    # the worker
    "GPUModelRunner": ("vllm.v1.worker.gpu_model_runner:GPUModelRunner",),
    "GPUModelRunnerV2": ("vllm.v1.worker.gpu.model_runner:GPUModelRunner",),
    "DeviceMemoryProfiler": ("vllm.utils.mem_utils:DeviceMemoryProfiler",),
    "flashinfer_jit": ("flashinfer.jit:core",),
    "flashinfer_fetch": ("flashinfer.jit:cubin_loader",),
    "WorkerBase": ("vllm.v1.worker.worker_base:WorkerBase",),
    "DraftModelProposer": ("vllm.v1.spec_decode.draft_model:DraftModelProposer",),
    "dflash_utils": ("vllm.v1.worker.gpu.spec_decode.dflash:utils",),
    "EagleProposer": ("vllm.v1.spec_decode.eagle:EagleProposer",),
    "DraftModelSpeculator": ("vllm.v1.worker.gpu.spec_decode.speculator:DraftModelSpeculator",),
    "eagle3_utils": ("vllm.v1.worker.gpu.spec_decode.eagle:eagle3_utils",),
    "eagle_utils": ("vllm.v1.worker.gpu.spec_decode.eagle:utils",),
    "init_speculator": ("vllm.v1.worker.gpu.spec_decode:init_speculator",),
    "init_worker_distributed_environment": (
        "vllm.v1.worker.gpu_worker:init_worker_distributed_environment",
    ),
    "init_workspace_manager": ("vllm.v1.worker.workspace:init_workspace_manager",),
    "parallel_state": ("vllm.distributed:parallel_state",),
    "shm_broadcast": ("vllm.distributed.device_communicators:shm_broadcast",),
    # the engine
    "generate_scheduler_kv_cache_config": (
        "vllm.v1.core.kv_cache_utils:generate_scheduler_kv_cache_config",
    ),
    "get_global_kv_cache_groups": tuple(f"{m}:get_global_kv_cache_groups" for m in _PLANNING),
    "get_kv_cache_capacity": ("vllm.v1.core.kv_cache_utils:get_kv_cache_capacity",),
    "get_kv_cache_config_builder": (
        "vllm.v1.core.kv_cache_config_builder:get_kv_cache_config_builder",
    ),
    "get_kv_cache_configs": tuple(f"{m}:get_kv_cache_configs" for m in _PLANNING),
    "record_kv_cache_layout": ("vllm.v1.attention.backends.utils:record_kv_cache_layout",),
    "register_all_kvcache_specs": ("vllm.v1.engine.core:register_all_kvcache_specs",),
    "reserve_mm_ipc_gpu_memory": ("vllm.multimodal.gpu_ipc_memory:reserve_mm_ipc_gpu_memory",),
    "resolve_kv_cache_block_sizes": ("vllm.v1.core.kv_cache_utils:resolve_kv_cache_block_sizes",),
    "resolve_kv_cache_layout": ("vllm.v1.attention.backends.utils:resolve_kv_cache_layout",),
    # the scheduler
    "ModelRunnerOutput": ("vllm.v1.outputs:ModelRunnerOutput",),
    "Request": ("vllm.v1.request:Request",),
    "SamplingParams": ("vllm.sampling_params:SamplingParams",),
    "StructuredOutputManager": ("vllm.v1.structured_output:StructuredOutputManager",),
    "get_hash_fn_by_name": ("vllm.utils.hashing:get_hash_fn_by_name",),
    "get_request_block_hasher": ("vllm.v1.core.kv_cache_utils:get_request_block_hasher",),
    "init_none_hash": ("vllm.v1.core.kv_cache_utils:init_none_hash",),
    "resolve_cache_hit_alignment_tokens": (
        "vllm.v1.core.kv_cache_utils:resolve_cache_hit_alignment_tokens",
    ),
    # the CPU engine
    "get_allowed_cpu_list": ("vllm.utils.cpu_resource_utils:get_allowed_cpu_list",),
    "get_memory_node_info": ("vllm.utils.cpu_resource_utils:get_memory_node_info",),
}


def name(wanted: str) -> Any:
    """vLLM's own object of that name, wherever this version keeps it.

    Raises:
        UnsupportedError: This version has it nowhere.
    """
    found = optional_name(wanted)
    if found is None:
        raise missing(PLACES[wanted][0])
    return found


@cache
def optional_name(wanted: str) -> Any:
    """As ``name``; None where this version has it nowhere."""
    for place in PLACES[wanted]:
        module, _, attribute = place.partition(":")
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # the module is there; something it needs is not
            continue
        if hasattr(found, attribute):
            return getattr(found, attribute)
        try:  # a submodule that nobody imported yet
            return importlib.import_module(f"{module}.{attribute}")
        except ModuleNotFoundError:
            continue
    return None


def missing(place: str) -> UnsupportedError:
    """The refusal that names the missing piece."""
    return UnsupportedError(
        f"vLLM {version()} has no {place.replace(':', '.')}, which planning needs; "
        f"tested versions: {', '.join(TESTED)}"
    )


def version() -> str:
    """vLLM's own version, as it says it."""
    import vllm

    return str(vllm.__version__)


def is_tested() -> bool:
    """Whether this version is one of those the adapter is tested with."""
    return ".".join(version().split(".")[:2]) in TESTED
