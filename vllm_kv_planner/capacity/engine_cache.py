"""One engine's KV cache with its groups as they are, where a ``Plan`` states only their sums."""

from __future__ import annotations

from ..engine_args.setup import EngineSetup
from ..errors import UnsupportedError
from ..kv_cache.capacity import KVCachePlan, WorkerBlocks
from ..kv_cache.specs import RequestLimits
from ..planner import plan_blocks
from ..planning.memory import kv_memory
from ..planning.request import PlanRequest
from ..records import dataclass


@dataclass(frozen=True, kw_only=True)
class EngineCache:
    """What ``plan()`` divides into blocks, and how.

    Attributes:
        setup: The engine, every default resolved.
        blocks: Its KV memory in blocks, as the plan has it.
        limits: What bounds one request of ``blocks.max_model_len`` tokens.
    """

    setup: EngineSetup
    blocks: KVCachePlan
    limits: RequestLimits

    @property
    def worker(self) -> WorkerBlocks | None:
        """The tightest rank, whose groups the plan shows; None where the model keeps no cache."""
        return self.blocks.workers[self.blocks.tightest] if self.blocks.workers else None


def engine_cache(request: PlanRequest) -> EngineCache:
    """The KV cache of this engine, by the rules restated here.

    Raises:
        PlannerError: As ``PlanRequest.plan``.
        UnsupportedError: vLLM's own code is to answer, or would have to: it tells sums only.
    """
    if request.planner == "vllm":
        raise UnsupportedError(
            "--planner vllm tells sums of the cache layers, not the layers: leave it at auto"
        )
    prepared = request.prepare()
    setup, limits = prepared.setup, prepared.limits
    memory = kv_memory(setup, request.found, prepared.version, request.machine)
    blocks = plan_blocks(setup, memory.available, limits)
    return EngineCache(setup=setup, blocks=blocks, limits=limits.at_length(blocks.max_model_len))
