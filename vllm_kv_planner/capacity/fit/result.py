"""What a search found: set-ups on offer, and where it found none, how near the nearest came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...planning.request import PlanRequest
from ...planning.types import as_plain
from ...records import dataclass, fields
from ..answer import SCHEMA_VERSION, Answer
from .suggestion import Suggestion

if TYPE_CHECKING:
    from ...planning.types import Plan
    from ...report.table import Table


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One set-up that does what is asked for.

    Attributes:
        model: The model's id.
        gpu: Every rank's device, by its short name.
        num_gpus: Of all machines.
        num_nodes: Machines.
        tensor_parallel_size: GPUs that share every layer.
        pipeline_parallel_size: Stages.
        data_parallel_size: Engines side by side; figures of memory are for one GPU.
        enable_expert_parallel: Experts divided among the GPUs of all engines.
        kv_cache_dtype: As asked for.
        gpu_memory_utilization: Share of each GPU.
        max_model_len: Tokens a request may have.
        max_num_seqs: Requests a step of one engine takes.
        max_num_batched_tokens: Tokens a step of one engine takes.
        available_kv_cache_bytes: KV memory of the tightest GPU, as predicted.
        uncertainty_bytes: How much less it may be.
        concurrency: Requests of ``max_model_len`` at once, all engines together, as predicted.
        sure_requests: Whole requests that surely run at once; None where nothing is cached.
        spare_requests: How many of them nobody asked for; None likewise.
        spare_bytes: KV memory of the tightest GPU that nobody asked for, at the worst.
        limited_by: What ends the number of requests: ``weights`` (they take more of the GPU than
            the KV cache), ``kv_cache`` or ``max_num_seqs``.
        why_not_fewer: Why the same GPU does not do it in a smaller number; empty with one.
        surely: False where it fits only if the prediction is not too high.
        total_memory_bytes: Of all GPUs together.
        price: Of all GPUs together, where prices are given.
        command: The ``vllm serve`` line; of the first machine, where there are several.
        node_commands: A line for each machine, or one for a Ray cluster.
        request: What was planned; ``request.plan()`` is the whole plan.
    """

    model: str
    gpu: str
    num_gpus: int
    num_nodes: int
    tensor_parallel_size: int
    pipeline_parallel_size: int
    data_parallel_size: int
    enable_expert_parallel: bool
    kv_cache_dtype: str
    gpu_memory_utilization: float
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    available_kv_cache_bytes: int
    uncertainty_bytes: int
    concurrency: float
    sure_requests: int | None
    spare_requests: int | None
    spare_bytes: int
    limited_by: str
    why_not_fewer: str
    surely: bool
    total_memory_bytes: int
    price: float | None
    command: str
    node_commands: tuple[str, ...]
    request: PlanRequest

    def plan(self) -> Plan:
        """The whole plan of this set-up."""
        return self.request.plan()

    def to_dict(self) -> dict[str, Any]:
        """Everything but ``request``, by name."""
        return {
            each.name: as_plain(getattr(self, each.name))
            for each in fields(self)
            if each.name != "request"
        }


@dataclass(frozen=True, kw_only=True)
class Miss:
    """The nearest that one device came to what is asked for.

    Attributes:
        model: The model's id.
        gpu: The device, by its short name.
        num_gpus: How many of them.
        reason: ``weights`` (they alone are larger), ``kv_cache`` (it holds too few requests),
            ``max_num_seqs`` (fixed too small), ``borderline`` (only if the prediction is exact) or
            ``refused`` (vLLM or the planner refuses it).
        requests: Requests it surely holds; None where that is not known.
        message: One sentence.
    """

    model: str
    gpu: str
    num_gpus: int
    reason: str
    requests: int | None
    message: str


@dataclass(frozen=True, kw_only=True)
class FitResult(Answer):
    """The set-ups that do what was asked for, best first.

    Attributes:
        models: The models tried.
        gpus: The devices tried.
        max_model_len: Context asked for, in tokens; None: each model's own.
        concurrency: Requests at once asked for.
        max_gpus: GPUs at most.
        max_nodes: Machines at most.
        offers: Set-ups, best first.
        tried: Set-ups looked at; the search stops when it has enough offers.
        misses: Where a device does not do it, the nearest it came, for each model.
        nearest: The set-up that came nearest, where there is no offer.
        suggestions: What would bring that one nearer, single flags; the smallest change first.
        notes: Sentences for the reader.
    """

    models: tuple[str, ...]
    gpus: tuple[str, ...]
    max_model_len: int | None
    concurrency: int
    max_gpus: int
    max_nodes: int
    offers: tuple[Offer, ...]
    tried: int
    misses: tuple[Miss, ...]
    nearest: Offer | None
    suggestions: tuple[Suggestion, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Offer | None:
        """The first offer; None where there is none."""
        return self.offers[0] if self.offers else None

    def table(self) -> Table:
        """One row an offer, everything in it."""
        from ...report.fit_report import offers_table

        return offers_table(self)

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain dictionaries and lists, ``schema_version`` first."""
        plain: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
        for each in fields(self):
            plain[each.name] = as_plain(getattr(self, each.name))
        plain["offers"] = [offer.to_dict() for offer in self.offers]
        plain["nearest"] = None if self.nearest is None else self.nearest.to_dict()
        return plain

    def _repr_html_(self) -> str:
        from ...report.fit_report import to_html

        return to_html(self)

    def __str__(self) -> str:
        from ...report.fit_report import to_text

        return to_text(self)
