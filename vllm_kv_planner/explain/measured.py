"""What a log's figures say of each part, brought to the parts that are predicted.

vLLM's words for the parts changed: weights, activation and memory outside PyTorch up to 0.26; from
0.27 on what was consumed (weights and all that stays) and an activation that holds the CUDA graph
estimate. Source: ``v1/worker/gpu_worker.py`` ``determine_available_memory`` and
``compile_or_warm_up_model``, ``utils/mem_utils.py`` ``MemoryProfilingResult`` of 0.10 to 0.33.
"""

from __future__ import annotations

from ..logs.start_log import StartLog
from ..records import dataclass


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Bytes of the tightest rank; None: the log does not say, nor can it be worked out.

    Attributes:
        total: The GPU's memory.
        free: Free when the engine looked first.
        requested: What the engine asked for.
        weights: "Model loading took".
        activation: Profiled peak, without the CUDA graph estimate.
        beside: Memory that stays beside weights: outside PyTorch, and the runner's buffers where
            the version counts them.
        graph_estimate: Estimated before capture.
        graphs: Taken by the capture.
        rest: Requested less weights and KV memory: activation, ``beside`` and deducted graphs.
        kv: KV memory.
    """

    total: int | None
    free: int | None
    requested: int | None
    weights: int | None
    activation: int | None
    beside: int | None
    graph_estimate: int | None
    graphs: int | None
    rest: int | None
    kv: int | None


def measured(log: StartLog, *, requested: int | None, deducts_graphs: bool) -> Measured:
    """The log's figures as parts.

    Args:
        log: The log.
        requested: What the engine asked for, where the log does not print it.
        deducts_graphs: Whether this version takes the graph estimate off the KV memory.
    """
    load = _first(log.size("load"), log.size("weights"))
    estimate = log.size("graph_estimate")
    deducted = estimate if deducts_graphs and estimate is not None else 0
    kv = log.kv_bytes
    consumed = log.size("consumed")
    stated = _first(log.size("requested"), requested)
    activation = log.size("activation")
    if activation is None and consumed is None:
        activation = log.size("torch_peak")
    elif activation is not None and consumed is not None and deducts_graphs:
        # from 0.27 on the printed peak holds the estimate; without it nothing can be told apart
        activation = None if estimate is None else activation - estimate
    beside = log.size("non_torch")
    if beside is None and consumed is not None and load is not None:
        beside = consumed - load
    given = log.arguments.get("kv_cache_memory_bytes") is not None
    rest = None
    if stated is not None and load is not None and kv is not None and not given:
        rest = stated - load - kv
    if beside is None and rest is not None and activation is not None:
        beside = rest - activation - deducted
    return Measured(
        total=log.size("total"),
        free=log.size("free"),
        requested=stated,
        weights=load,
        activation=activation,
        beside=beside,
        graph_estimate=estimate,
        graphs=log.size("graphs"),
        rest=rest,
        kv=kv,
    )


def _first(*sizes: int | None) -> int | None:
    return next((size for size in sizes if size is not None), None)


GIB = 1 << 30
ROUNDING = int(0.0055 * GIB)
"""A figure printed with two decimals of a GiB says no more than this, in bytes."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One figure, predicted and actual.

    Attributes:
        name: What it is.
        unit: ``bytes``, ``count`` or ``times``.
        predicted: What would have been said; None where nothing.
        actual: What the engine said; None where it did not.
        band: How far off the prediction said it may be, in the same unit.
        reason: Why they differ, or that they do not.
    """

    name: str
    unit: str
    predicted: float | None
    actual: float | None
    band: float | None = None
    reason: str = ""

    @property
    def difference(self) -> float | None:
        """Actual less predicted."""
        if self.predicted is None or self.actual is None:
            return None
        return self.actual - self.predicted

    @property
    def agrees(self) -> bool:
        """Whether they are the same as far as the log's digits go."""
        difference = self.difference
        if difference is None:
            return False
        if self.unit == "bytes":
            return abs(difference) <= ROUNDING
        return abs(difference) <= (0.5 if self.unit == "count" else 0.0055)

    @property
    def within_band(self) -> bool:
        """Whether the prediction's own margin covers the difference."""
        return (
            self.difference is not None
            and self.band is not None
            and abs(self.difference) <= self.band + ROUNDING
        )
