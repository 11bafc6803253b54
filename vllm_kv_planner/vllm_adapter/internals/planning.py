"""vLLM's own paging functions, under whichever names and arguments this version has them.

0.33 gave ``get_kv_cache_configs`` the groups as a fourth argument, and the functions below it a
builder as their first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .names import missing, name, optional_name
from .one_line import one_line

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
                return int(self._module[function](*builder, self.vllm_config, groups))
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
