"""The workers' last word on the block size: kernels must be able to split it.

Source: vLLM 0.33 ``v1/worker/utils.py`` ``prepare_kernel_block_sizes``, which a worker runs when it
lays out its cache. A block size that the user gave may fail only there.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from .names import name, optional_name


def check_kernel_blocks(vllm_config: Any, config: Any, backend_of: Mapping[str, Any]) -> None:
    """Refuse as the worker would; groups whose backends are not known are left alone.

    Raises:
        ValueError: vLLM's own: no block size that all backends of a group have in common.
    """
    select = optional_name("select_common_block_size")
    if select is None:
        return
    takes_specs = "kv_cache_specs" in inspect.signature(select).parameters
    for group in config.kv_cache_groups:
        if is_packed(config.kv_cache_tensors, group.layer_names):
            continue
        inner = getattr(group.kv_cache_spec, "kv_cache_specs", None) or {}
        pairs = dict.fromkeys(
            (backend_of[layer], inner.get(layer, group.kv_cache_spec))
            for layer in group.layer_names
            if layer in backend_of
        )
        backends, specs = [list(column) for column in zip(*pairs, strict=True)] or ([], [])
        if not specs or not all(is_split(spec) for spec in specs):
            continue
        # FlashInfer names larger blocks where it sees the config of an engine that can use them
        with name("set_current_vllm_config")(vllm_config):
            select(group.kv_cache_spec.block_size, backends, *((specs,) if takes_specs else ()))


def is_split(spec: Any) -> bool:
    """Whether kernels may see its blocks in smaller ones; states are never split."""
    return hasattr(spec, "num_kv_heads") and bool(getattr(spec, "has_layer_views", True))


def is_packed(tensors: Iterable[Any], names: list[str]) -> bool:
    """Whether other layers' pages lie between this group's blocks, so that none is split."""
    return any(
        getattr(tensor, "block_stride", 0) > getattr(tensor, "layer_stride", 0)
        for tensor in tensors
        if not set(getattr(tensor, "layers", ())).isdisjoint(names)
    )
