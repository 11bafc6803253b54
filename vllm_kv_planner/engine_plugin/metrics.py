"""The figures where operators look: gauges in the engine's own ``/metrics``, and ``/kv_plan``."""

from __future__ import annotations

from typing import Any

from .watch import ACTUAL, PREDICTED, kept

GAUGES = {
    "vllm_kv_planner_kv_cache_bytes": ("kv_cache_bytes", "Memory of the KV cache on one GPU"),
    "vllm_kv_planner_kv_cache_band_bytes": ("band_bytes", "How far off the prediction may be"),
    "vllm_kv_planner_gpu_blocks": ("gpu_blocks", "Blocks of the KV cache, of one engine"),
    "vllm_kv_planner_max_concurrency": ("max_concurrency", "Requests of full length at once"),
}
"""Name of each gauge: the figure, and what it is."""
_made: dict[str, Any] = {}


def set_gauges() -> None:
    """Every figure that is known, labelled ``predicted`` or ``actual``."""
    from prometheus_client import Gauge

    for source, name in (("predicted", PREDICTED), ("actual", ACTUAL)):
        figures = kept(name) or {}
        for gauge, (figure, about) in GAUGES.items():
            if figures.get(figure) is None:
                continue
            if gauge not in _made:
                _made[gauge] = Gauge(gauge, about, ["source"], multiprocess_mode="mostrecent")
            _made[gauge].labels(source).set(figures[figure])


class Endpoint:
    """``GET /kv_plan``: the plan and what came of it, as JSON; an endpoint plugin of vLLM."""

    name = "vllm_kv_planner"
    required_tasks = None

    def attach_router(self, app: Any) -> None:
        """Add the route to the server's application."""
        app.add_api_route("/kv_plan", self.answer, methods=["GET"])

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Nothing: the figures lie in the engine's folder."""

    async def answer(self) -> dict[str, Any]:
        """The two sets of figures; null for what is not known."""
        return {"predicted": kept(PREDICTED), "actual": kept(ACTUAL)}
