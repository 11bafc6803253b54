"""How much KV cache a vLLM engine will have, before it is launched and without a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .api import plan as plan
    from .capacity.compare import compare_models as compare_models
    from .capacity.compared import ModelComparison as ModelComparison
    from .capacity.estimate import KVCacheEstimate as KVCacheEstimate
    from .capacity.estimate import estimate_kv_cache as estimate_kv_cache
    from .capacity.fit.fit import fit as fit
    from .capacity.fit.offer import Offer as Offer
    from .capacity.fit.questions import fewest_gpus as fewest_gpus
    from .capacity.fit.questions import least_utilization as least_utilization
    from .capacity.fit.questions import longest_context as longest_context
    from .capacity.fit.questions import suggest as suggest
    from .capacity.fit.result import FitResult as FitResult
    from .capacity.fit.suggestions import Suggestion as Suggestion
    from .capacity.fit.suggestions import smallest_change as smallest_change
    from .capacity.fit.suggestions import suggestions_of as suggestions_of
    from .capacity.launch import Launch as Launch
    from .capacity.launch import plan_launch as plan_launch
    from .capacity.paged import PagingComparison as PagingComparison
    from .capacity.paging import Scenario as Scenario
    from .capacity.paging import paging as paging
    from .capacity.sweep.run import SweepResult as SweepResult
    from .capacity.sweep.run import sweep as sweep
    from .capacity.upgrade import Upgrade as Upgrade
    from .capacity.upgrade import upgrade as upgrade
    from .capacity.workload import run_workload as run_workload
    from .errors import ConfigError as ConfigError
    from .errors import InputError as InputError
    from .errors import PlannerError as PlannerError
    from .errors import UnknownNameError as UnknownNameError
    from .errors import UnsupportedError as UnsupportedError
    from .planning.request import PlanRequest as PlanRequest
    from .planning.request import plan_request as plan_request
    from .planning.types import Plan as Plan
    from .vllm_adapter.client import VLLMPlanner as VLLMPlanner
    from .vllm_adapter.live import plan_engine as plan_engine
    from .workload.result import WorkloadResult as WorkloadResult
    from .workload.source import RequestSource as RequestSource

_NAMES = {
    "api": "plan",
    "capacity.compare": "compare_models",
    "capacity.compared": "ModelComparison",
    "capacity.estimate": "KVCacheEstimate estimate_kv_cache",
    "capacity.fit.fit": "fit",
    "capacity.fit.offer": "Offer",
    "capacity.fit.questions": "fewest_gpus least_utilization longest_context suggest",
    "capacity.fit.result": "FitResult",
    "capacity.fit.suggestions": "Suggestion smallest_change suggestions_of",
    "capacity.launch": "Launch plan_launch",
    "capacity.paged": "PagingComparison",
    "capacity.paging": "Scenario paging",
    "capacity.sweep.run": "SweepResult sweep",
    "capacity.upgrade": "Upgrade upgrade",
    "capacity.workload": "run_workload",
    "errors": "ConfigError InputError PlannerError UnknownNameError UnsupportedError",
    "planning.request": "PlanRequest plan_request",
    "planning.types": "Plan",
    "vllm_adapter.client": "VLLMPlanner",
    "vllm_adapter.live": "plan_engine",
    "workload.result": "WorkloadResult",
    "workload.source": "RequestSource",
}
"""The public names, by the module that has them."""
_HOME = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604 (the names stand above)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import vllm_kv_planner`` is free."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value
