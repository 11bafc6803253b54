"""The workers' last word on the block size: kernels must be able to split it.

Source: vLLM 0.33 ``v1/worker/utils.py`` ``prepare_kernel_block_sizes``, which a worker runs when it
lays out its cache. A block size that the user gave may fail only there.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from .names import optional_name


def check_kernel_blocks(config: Any, backend_of: Mapping[str, Any]) -> None:
    """Refuse as the worker would; groups whose backends are not known are left alone.

    Raises:
        ValueError: vLLM's own: no block size that all backends of a group have in common.
    """
    select = optional_name("select_common_block_size")
    if select is None:
        return
    takes_specs = "kv_cache_specs" in inspect.signature(select).parameters
    for group in config.kv_cache_groups:
        inner = getattr(group.kv_cache_spec, "kv_cache_specs", None)
        spec = next(iter(inner.values())) if inner else group.kv_cache_spec
        backends = list(
            dict.fromkeys(backend_of[name] for name in group.layer_names if name in backend_of)
        )
        if not hasattr(spec, "num_kv_heads") or not getattr(spec, "has_layer_views", True):
            continue  # states are never split
        if not backends or is_packed(config.kv_cache_tensors, group.layer_names):
            continue
        specs = ([spec] * len(backends),) if takes_specs else ()
        select(group.kv_cache_spec.block_size, backends, *specs)


def is_packed(tensors: Iterable[Any], names: list[str]) -> bool:
    """Whether other layers' pages lie between this group's blocks, so that none is split."""
    return any(
        getattr(tensor, "block_stride", 0) > getattr(tensor, "layer_stride", 0)
        for tensor in tensors
        if not set(getattr(tensor, "layers", ())).isdisjoint(names)
    )
