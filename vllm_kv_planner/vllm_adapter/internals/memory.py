"""What vLLM itself would leave for the KV cache, where that can be known before it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ...errors import InputError, UnsupportedError
from ...units import gib
from .names import name, optional_name, version


@dataclass(frozen=True, kw_only=True)
class KVMemory:
    """KV memory of every rank.

    Attributes:
        available_bytes: For the KV cache.
        requested_bytes: What the whole engine may take, where that decides.
        provenance: Where the figure comes from.
        note: What the reader should know of it.
    """

    available_bytes: int
    requested_bytes: int | None = None
    provenance: str
    note: str | None = None


def kv_memory(vllm_config: Any, weights_bytes: int) -> KVMemory:
    """The KV memory of one rank.

    Raises:
        UnsupportedError: It depends on a GPU's memory profile, which nobody has taken.
        InputError: Nothing is left.
    """
    given = vllm_config.cache_config.kv_cache_memory_bytes
    on_cpu = name("current_platform").device_type == "cpu"
    if given is None and on_cpu:
        return cpu_memory(vllm_config, weights_bytes)
    if given is None and vllm_config.cache_config.num_gpu_blocks_override is not None:
        return KVMemory(available_bytes=0, provenance="--num-gpu-blocks-override")
    if given is None:
        raise UnsupportedError(
            "how much memory is left for the KV cache is not predicted yet: "
            "give it with --kv-cache-memory-bytes (bytes of one GPU, such as 40G)"
        )
    if on_cpu:
        node = name("get_memory_node_info")(name("get_allowed_cpu_list")()[0].numa_node)
        if given > node.available_memory:
            raise InputError(
                f"vLLM {version()} refuses: the memory node has {gib(node.available_memory)} "
                f"available, less than the {gib(given)} asked for the KV cache "
                "(--kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE)"
            )
        return KVMemory(
            available_bytes=given,
            provenance="--kv-cache-memory-bytes or VLLM_CPU_KVCACHE_SPACE",
        )
    reserve = optional_name("reserve_mm_ipc_gpu_memory")
    if reserve is not None:
        given = reserve(given, vllm_config.model_config.multimodal_config, 1)
    return KVMemory(available_bytes=given, provenance="--kv-cache-memory-bytes")


def cpu_memory(vllm_config: Any, weights_bytes: int) -> KVMemory:
    """What the CPU engine takes for itself where nobody says.

    Source: vLLM 0.32 ``v1/worker/cpu_worker.py`` ``determine_available_memory``: a share of the
    memory node, less what the worker's process takes once the model is loaded and warm. That
    process does not exist yet; this one, with vLLM imported, stands for it, and the weights.
    """
    import psutil

    core = name("get_allowed_cpu_list")()[0]
    node = name("get_memory_node_info")(core.numa_node)
    share = vllm_config.cache_config.gpu_memory_utilization
    requested = math.ceil(node.total_memory * share)
    taken = psutil.Process().memory_info().rss + weights_bytes
    if requested <= taken:
        raise InputError(
            f"--gpu-memory-utilization {share}: of {node.total_memory:,} bytes of memory that is "
            f"less than the worker itself takes ({taken:,} bytes)"
        )
    return KVMemory(
        available_bytes=requested - taken,
        requested_bytes=requested,
        provenance="gpu_memory_utilization times the memory node, less weights and an estimate of "
        "the worker's process",
        note="the CPU engine deducts what its process takes once warm, known only then: set "
        "VLLM_CPU_KVCACHE_SPACE (GiB) or --kv-cache-memory-bytes for an exact plan",
    )
