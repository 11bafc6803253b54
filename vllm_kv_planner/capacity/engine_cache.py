"""One engine's KV cache with its groups as they are, where a ``Plan`` states only their sums."""

from __future__ import annotations

from ..described import described, named
from ..engine_args.setup import EngineSetup, resolve_setup
from ..errors import UnsupportedError
from ..gpu.catalogue import DEFAULT_GPU, find_gpu
from ..gpu.gpu import GPU
from ..kv_cache.capacity import KVCachePlan, WorkerBlocks
from ..kv_cache.specs import RequestLimits
from ..kv_memory import kv_memory
from ..older_versions import older_rules, request_limits, with_defaults
from ..planner import VLLM_VERSION, plan_blocks
from ..records import dataclass
from .request import PlanRequest


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
    gpu = request.gpu or DEFAULT_GPU
    device = request.machine.device(gpu if isinstance(gpu, GPU) else find_gpu(gpu))
    args = request.args
    model = described(request.found, args)
    rules = older_rules(request.vllm_version)
    if rules is not None:
        args, _ = with_defaults(args, model, rules)
    with named(request.found):
        setup = resolve_setup(args, model, device, request.environment)
    limits = request_limits(setup, rules)
    version = VLLM_VERSION if rules is None else rules.name
    memory = kv_memory(setup, request.found, version, request.machine)
    blocks = plan_blocks(setup, memory.available, limits)
    return EngineCache(setup=setup, blocks=blocks, limits=limits.at_length(blocks.max_model_len))
