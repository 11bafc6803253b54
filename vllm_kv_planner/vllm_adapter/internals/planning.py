"""vLLM's own paging functions, under whichever names and arguments this version has them.

0.33 gave ``get_kv_cache_configs`` the groups as a fourth argument, and the functions below it a
builder as their first; 0.26 to 0.32 have them in ``kv_cache_utils``, without.
"""

from __future__ import annotations

import inspect
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .names import missing, name, one_line, optional_name

_CHECK = "_check_enough_kv_cache_memory"
_AUTO_FIT = "_auto_fit_max_model_len"
_LONGEST = "_estimate_max_model_len_from_groups"
_PER_BLOCK = ("_pool_bytes_per_block_from_builder", "_pool_bytes_per_block")


class Planning:
    """Paging for one engine.

    Attributes:
        refusals: What vLLM said against the memory, in its words; empty where it fits.
    """

    def __init__(self, vllm_config: Any) -> None:
        self.vllm_config = vllm_config
        self.refusals: list[str] = []
        self._planner = name("get_kv_cache_configs")
        # the module's own functions, whatever the module is called in this version
        self._module: dict[str, Any] = self._planner.__globals__
        make_builder = optional_name("get_kv_cache_config_builder")
        self._builder = () if make_builder is None else (make_builder(vllm_config),)
        self._get_groups = optional_name("get_global_kv_cache_groups")

    def global_groups(self, specs: list[dict[str, Any]]) -> list[Any] | None:
        """The whole model's groups, where this version makes them before it knows the memory."""
        if self._get_groups is None:
            return None
        groups: list[Any] = self._get_groups(self.vllm_config, specs)
        adjust = getattr(self.vllm_config, "adjust_dcp_kv_cache_interleave_size", None)
        if adjust is not None:
            adjust(groups)
        return groups

    def configs(
        self, specs: list[dict[str, Any]], available: list[int], groups: list[Any] | None
    ) -> list[Any]:
        """One ``KVCacheConfig`` a rank.

        A model that does not fit is planned all the same, and what vLLM says goes to ``refusals``.
        """
        for check in (_CHECK, _AUTO_FIT):
            self._module[check] = self._noting(self._function(check))
        more = () if groups is None else (groups,)
        configs: list[Any] = self._planner(self.vllm_config, specs, available, *more)
        return configs

    def bytes_per_block(self, groups: list[Any]) -> int:
        """What one block id costs on a rank that has these groups."""
        for function in _PER_BLOCK:
            if function in self._module:
                builder = self._builder if function == _PER_BLOCK[0] else ()
                asked = (*builder, self.vllm_config, groups)
                wanted = len(inspect.signature(self._module[function]).parameters)
                return int(self._module[function](*asked[-wanted:]))  # 0.29 to 0.31: groups alone
        raise missing(f"{self._planner.__module__}:{_PER_BLOCK[-1]}")

    def longest(self, groups: list[Any], usable: int, model_max_len: int) -> int:
        """vLLM's estimate of the longest request that ``usable`` bytes hold; 0 for none."""
        model = self.vllm_config.model_config
        asked = model.max_model_len
        model.max_model_len = model_max_len
        try:
            estimate = self._function(_LONGEST)
            return int(estimate(*self._builder, self.vllm_config, groups, usable))
        finally:
            model.max_model_len = asked

    def _function(self, wanted: str) -> Callable[..., Any]:
        if wanted not in self._module:
            raise missing(f"{self._planner.__module__}:{wanted}")
        function = self._module[wanted]
        return getattr(function, "__wrapped__", function)  # type: ignore[no-any-return]

    def _noting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except ValueError as error:
                self.refusals.append(one_line(str(error)))
                return None

        noting.__wrapped__ = function  # type: ignore[attr-defined]
        return noting


_ALLOW = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
_ANY = 1 << 40


def own_length(vllm_config: Any) -> int:
    """The model's own longest context, or the one asked for where that is longer.

    vLLM's check is asked which lengths it accepts: its default is less than that where a model
    stretches its positions (LongRoPE). Where a config names no length, vLLM accepts any; then it is
    the one asked for.

    Source: vLLM 0.33 ``config/model.py`` ``get_and_verify_max_len``.
    """
    model = vllm_config.model_config
    asked = int(model.max_model_len)
    check = getattr(model, "get_and_verify_max_len", None)
    if check is None:
        return asked

    def refuses(length: int) -> bool:
        try:
            check(length)
        except ValueError:
            return True
        return False

    allowed = os.environ.pop(_ALLOW, None)  # with it nothing is refused
    try:
        if not refuses(_ANY):
            return asked
        return max(asked, bisect_left(range(1, _ANY), True, key=refuses))
    finally:
        if allowed is not None:
            os.environ[_ALLOW] = allowed


def check_kernel_blocks(vllm_config: Any, config: Any, backend_of: Mapping[str, Any]) -> None:
    """Refuse as the worker would; groups whose backends are not known are left alone.

    Source: vLLM 0.33 ``v1/worker/utils.py`` ``prepare_kernel_block_sizes``, which a worker runs
    when it lays out its cache: a block size that the user gave may fail only there.

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
